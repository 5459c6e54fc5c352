// The form of a study: checks it while it is written, keeps a draft, and redraws it without a reload.
"use strict";

(() => {
  const PAUSE_MS = 500;
  const KEY = `tangent-draft:${location.pathname}${location.search}`;
  const form = () => document.getElementById("study-form");
  const show = (id, isShown) => {
    document.getElementById(id).hidden = !isShown;
  };

  function written(button) {
    const fields = new URLSearchParams(new FormData(form()));
    if (button?.name) fields.append(button.name, button.value);
    return fields;
  }

  // Until a draft of an earlier visit is shown, nothing may take its place.
  let isRestored = true;
  // A browser may refuse to store anything.
  const draft = {
    read() {
      try {
        return localStorage.getItem(KEY);
      } catch {
        return null;
      }
    },
    keep() {
      if (!isRestored) return;
      try {
        localStorage.setItem(KEY, String(written()));
      } catch {
        // The draft is lost with the page, as without a script.
      }
    },
    discard() {
      try {
        localStorage.removeItem(KEY);
      } catch {
        // It was never kept.
      }
    },
  };

  // What the reader has opened and closed stays so, unless the page has just been loaded.
  let isRestoring = false;
  const callbacks = {
    beforeNodeRemoved(node) {
      // Added by page.js.
      return !(node.nodeType === Node.ELEMENT_NODE && node.matches(".copy"));
    },
    beforeAttributeUpdated(name, node) {
      return !(name === "open" && !isRestoring) && !(name === "class" && node.matches(".has-button"));
    },
  };

  // Returns whether the page is still shown.
  async function redraw(fields, isStale) {
    const answer = await fetch(form().action, { method: "POST", body: fields, headers: { Accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname.includes("/studies/")) {
      draft.discard();
      location.assign(answer.url);
      return false;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const study = page.getElementById("new-study");
    if (isStale()) return true;
    if (!study) throw new Error("", { cause: answer.status });
    // What is being typed stays.
    const options = { callbacks, ignoreActiveValue: !isRestoring };
    Idiomorph.morph(document.getElementById("new-study"), study, options);
    for (const folded of form().querySelectorAll("details:not([open])")) {
      if (folded.querySelector("[aria-invalid]")) folded.open = true;
    }
    // After it, page.js adds copy buttons.
    document.dispatchEvent(new Event("htmx:afterSettle"));
    return true;
  }

  // Returns "left" once the page is no longer shown, and "failed" if the service did not check the study.
  async function send(fields, isStale = () => false) {
    try {
      const isShown = await redraw(fields, isStale);
      show("unchecked", false);
      show("logged-out", false);
      return isShown ? "checked" : "left";
    } catch (error) {
      show("unchecked", error.cause !== 401);
      show("logged-out", error.cause === 401);
      return "failed";
    }
  }

  let pause;
  function check() {
    clearTimeout(pause);
    pause = setTimeout(() => {
      const fields = written();
      const sent = String(fields);
      fields.append("do", "redraw");
      // If something else was typed by then, its own check follows.
      send(fields, () => String(written()) !== sent);
    }, PAUSE_MS);
  }

  document.addEventListener("input", (event) => {
    if (!form().contains(event.target)) return;
    draft.keep();
    check();
  });
  let isSending = false;
  document.addEventListener("submit", async (event) => {
    if (event.target !== form()) return;
    event.preventDefault();
    // A second press must not submit a second study.
    if (isSending) return;
    isSending = true;
    clearTimeout(pause);
    if ((await send(written(event.submitter))) === "left") return;
    isSending = false;
    draft.keep();
    const isButtonGone = document.activeElement === document.body;
    if (isButtonGone || event.submitter?.name !== "do") document.getElementById("findings").focus();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest(".discard")) {
      event.preventDefault();
      draft.discard();
      // The same start, which may be a clone, without the place in it.
      history.replaceState(null, "", location.pathname + location.search);
      location.reload();
    }
    const button = event.target.closest("button[data-add]");
    if (button) add(JSON.parse(button.dataset.add));
  });

  // In the text editor, each button adds its fields to the study.
  function add(fields) {
    const text = document.getElementById("spec-text");
    const status = document.getElementById("added");
    try {
      text.value = JSON.stringify(merged(JSON.parse(text.value), fields), null, 2);
      status.textContent = `Added: ${Object.keys(fields).join(", ")}`;
    } catch {
      status.textContent = `The text is not JSON, so write it yourself: ${JSON.stringify(fields)}`;
      return;
    }
    text.dispatchEvent(new Event("input", { bubbles: true }));
  }

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

  const kept = draft.read();
  if (kept && kept !== String(written()) && document.querySelector("#new-study[data-start]")) {
    const fields = new URLSearchParams(kept);
    fields.append("do", "redraw");
    isRestoring = true;
    isRestored = false;
    send(fields).then((result) => {
      isRestoring = false;
      isRestored = result === "checked";
      show("draft", isRestored);
    });
  }
})();
