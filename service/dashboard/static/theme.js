// The switch between the light and the dark theme, without a reload. The server keeps the choice and renders the next page with it.
"use strict";

(() => {
  const form = document.getElementById("theme");
  // Without this script, a choice would lose what was written in the answer to a form.
  form.hidden = false;

  function show(theme) {
    const root = document.documentElement;
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    for (const button of form.querySelectorAll("button")) {
      const isChosen = button.value === theme;
      button.setAttribute("aria-pressed", String(isChosen));
      if (isChosen) document.getElementById("dark").media = button.dataset.media;
    }
    document.dispatchEvent(new Event("themechange"));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const theme = event.submitter.value;
    show(theme);
    const body = new URLSearchParams({ theme });
    // It is sent even if the reader leaves the page at once. If it fails, the choice holds for this page.
    fetch(form.action, { method: "POST", body, redirect: "manual", keepalive: true }).catch(() => {});
  });

  // A page that the browser kept follows what was chosen on another page since.
  addEventListener("pageshow", ({ persisted }) => {
    if (persisted) show(/(?:^|; )tangent-theme=(light|dark)(?:;|$)/.exec(document.cookie)?.[1] ?? "auto");
  });
})();
