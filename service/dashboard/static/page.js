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

  // The form of a study: each button adds its fields to the study in the text.
  function merged(study, fields) {
    const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
    const result = { ...study };
    for (const [name, value] of Object.entries(fields)) {
      // A budget of steps replaces one of epochs, and arms replace arms; anything else is merged.
      const isMerged = name !== "budget" && isObject(value) && isObject(result[name]);
      result[name] = isMerged ? mergedObject(result[name], value) : value;
    }
    return result;
  }

  function mergedObject(before, added) {
    const result = { ...before };
    for (const [name, value] of Object.entries(added)) {
      const isList = Array.isArray(value) && Array.isArray(result[name]);
      result[name] = isList ? [...new Set([...result[name], ...value])] : value;
    }
    return result;
  }

  for (const button of document.querySelectorAll("button[data-add]")) {
    button.addEventListener("click", () => {
      const text = document.getElementById("spec-text");
      const status = document.getElementById("added");
      const fields = JSON.parse(button.dataset.add);
      try {
        text.value = JSON.stringify(merged(JSON.parse(text.value), fields), null, 2);
        status.textContent = `Added: ${Object.keys(fields).join(", ")}`;
      } catch {
        status.textContent = `The text is not JSON, so write it yourself: ${button.dataset.add}`;
      }
    });
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
