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

  document.addEventListener("htmx:afterSettle", addCopyButtons);

  // The server writes times in UTC.
  const inZone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  function showLocalTimes() {
    for (const time of document.querySelectorAll("time[datetime]:not([title])")) {
      time.title = time.textContent;
      time.textContent = inZone.format(new Date(time.dateTime));
    }
  }
  document.addEventListener("htmx:afterSettle", showLocalTimes);

  // A section that the address names may come with the first analysis.
  let isNamed = location.hash.length > 1 && !document.getElementById(location.hash.slice(1));
  document.addEventListener("htmx:afterSettle", () => {
    const section = isNamed && document.getElementById(location.hash.slice(1));
    if (!section) return;
    isNamed = false;
    if (scrollY === 0) section.scrollIntoView();
  });

  // Announce only changes of state to screen readers; counts that change every second would be noise.
  const stateShown = () => document.querySelector(".title > .state")?.textContent;
  let announced = stateShown();
  document.addEventListener("htmx:afterSettle", () => {
    const state = stateShown();
    if (state !== announced) document.getElementById("announcement").textContent = `Now ${state}`;
    announced = state;
  });

  // A hidden page polls rarely: only its title and icon are seen. It catches up when it is shown again.
  const HIDDEN_EVERY_MS = 15_000;
  let polledAt = 0;
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (!event.detail.elt.matches("[data-live]")) return;
    if (document.hidden && Date.now() - polledAt < HIDDEN_EVERY_MS) event.preventDefault();
    else polledAt = Date.now();
  });

  function setLost(isLost) {
    const notice = document.getElementById("connection");
    if (notice) notice.hidden = !isLost;
  }
  document.addEventListener("htmx:sendError", () => setLost(true));
  // Comes with every response, also with an error.
  document.addEventListener("htmx:afterOnLoad", (event) => {
    const { requestConfig, successful, xhr } = event.detail;
    const isGone = xhr.status === 404 && requestConfig.elt.matches("[data-live]");
    setLost(!successful && !isGone);
    if (!isGone) return;
    document.getElementById("gone").hidden = false;
    // Without its element, polling ends.
    requestConfig.elt.remove();
  });

  addCopyButtons();
  showLocalTimes();
})();
