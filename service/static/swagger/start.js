// A file of its own, because the pages' policy allows no script within a page.
window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    // Relative, because a proxy may serve this page below a path.
    url: "openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    // The validator badge would be fetched from another host.
    validatorUrl: null,
  });
});
