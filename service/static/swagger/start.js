// A file of its own, because the pages' policy allows no script within a page.
window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    // The validator badge would be fetched from another host.
    validatorUrl: null,
  });
});
