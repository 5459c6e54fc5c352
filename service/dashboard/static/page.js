// Optional comfort: copy buttons, and live updates that keep what the reader has opened.
"use strict";

(() => {
  document.documentElement.classList.add("has-js");

  function addCopyButtons() {
    for (const code of document.querySelectorAll("pre.copyable:not(.has-button)")) {
      code.classList.add("has-button");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(code.querySelector("code").textContent);
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(code.querySelector("code"));
          button.textContent = "Selected: press Ctrl+C";
        }
        setTimeout(() => {
          button.textContent = "Copy";
        }, 2000);
      });
      code.before(button);
    }
  }

  // Live updates replace parts of the page; keep the <details> that the reader has opened open.
  let opened = [];
  document.addEventListener("htmx:beforeSwap", () => {
    opened = [...document.querySelectorAll("details[id][open]")].map((details) => details.id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    addCopyButtons();
  });

  // Announce only changes of state to screen readers; counts that change every second would be noise.
  const stateShown = () => document.querySelector(".title > .state")?.textContent;
  let announced = stateShown();
  document.addEventListener("htmx:afterSettle", () => {
    const state = stateShown();
    if (state !== announced) document.getElementById("announcement").textContent = `Now ${state}`;
    announced = state;
  });

  // Do not poll while the page is hidden; it catches up when it is shown again.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.elt.matches("[data-live]")) event.preventDefault();
  });

  function setLost(isLost) {
    const notice = document.getElementById("connection");
    if (notice) notice.hidden = !isLost;
  }
  document.addEventListener("htmx:sendError", () => setLost(true));
  document.addEventListener("htmx:responseError", () => setLost(true));
  document.addEventListener("htmx:afterOnLoad", () => setLost(false));

  addCopyButtons();
})();
