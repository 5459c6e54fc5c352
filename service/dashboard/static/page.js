// What makes the page pleasant and is not needed to read it: buttons that copy, and live updates that leave the reader's place alone.
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

  // Parts of the page are replaced while a study runs: whatever the reader has unfolded stays so.
  let unfolded = [];
  document.addEventListener("htmx:beforeSwap", () => {
    unfolded = [...document.querySelectorAll("details[id][open]")].map((details) => details.id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const id of unfolded) document.getElementById(id)?.setAttribute("open", "");
    addCopyButtons();
  });

  // Said aloud are changes of state only: a count that changes every second would drown everything else.
  const stateShown = () => document.querySelector(".title > .state")?.textContent;
  let announced = stateShown();
  document.addEventListener("htmx:afterSettle", () => {
    const state = stateShown();
    if (state !== announced) document.getElementById("announcement").textContent = `Now ${state}`;
    announced = state;
  });

  // Nobody looks at a hidden page; it catches up when it is shown again.
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
