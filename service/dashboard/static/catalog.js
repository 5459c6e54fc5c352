// Shows what a search of the catalogue finds while the reader types. The server searches; without this script, the form does the same.
"use strict";

(() => {
  const form = document.getElementById("card-search");
  if (!form) return;
  let asked = 0;
  let timer;

  async function show() {
    const number = ++asked;
    const text = new FormData(form).get("q");
    const url = text ? `${form.action}?${new URLSearchParams({ q: text })}` : form.action;
    const response = await fetch(url, { headers: { accept: "text/html" } }).catch(() => null);
    if (!response?.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    // An answer that was overtaken by the next one is old.
    if (number !== asked) return;
    for (const id of ["found", "found-count"]) {
      document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
    }
    history.replaceState(history.state, "", url);
  }

  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, 150);
  });
  // A browser that returns to the page may fill in what was typed there last.
  addEventListener("pageshow", () => {
    const field = form.elements.namedItem("q");
    if (field.value !== field.defaultValue) show();
  });
})();
