// Live updates: they change what has changed and leave everything else as it is, and the tab shows the state.
"use strict";

(() => {
  // A text that the reader has selected stays until the next update after that.
  function isSelected(node) {
    const selection = getSelection();
    return !selection.isCollapsed && selection.containsNode(node, true);
  }

  // What belongs to the reader: charts with their zoom, loaded parts, fields with what was typed, and times in their zone.
  const KEPT = ".plot, .part, input:not([type=hidden]), select, textarea, .copy";

  // A chart that is kept still gets the height of its new rows.
  const HEIGHT = /^(of-\d+|is-tall)$/;
  function takeHeight(plot, wanted) {
    const heightOf = (element) => [...element.classList].find((name) => HEIGHT.test(name));
    const [before, after] = [heightOf(plot), heightOf(wanted)];
    if (before === after) return;
    if (before) plot.classList.remove(before);
    if (after) plot.classList.add(after);
  }

  const callbacks = {
    beforeNodeMorphed(before, after) {
      if (before.nodeType === Node.TEXT_NODE) return !isSelected(before);
      if (before.nodeType !== Node.ELEMENT_NODE) return true;
      if (before.matches("time") && before.getAttribute("datetime") === after.getAttribute("datetime")) return false;
      if (!before.matches(KEPT) || before.id !== after.id) return true;
      if (before.matches(".plot")) takeHeight(before, after);
      return false;
    },
    beforeNodeRemoved(node) {
      // Added by page.js to what the server sends.
      return !(node.nodeType === Node.ELEMENT_NODE && node.matches(".copy"));
    },
    beforeAttributeUpdated(name, node) {
      return !(name === "open" && node.matches("details")) && !(name === "class" && node.matches(".has-button"));
    },
  };

  htmx.defineExtension("morph", {
    isInlineSwap: (style) => style === "morph",
    handleSwap(style, target, fragment) {
      if (style !== "morph") return false;
      return Idiomorph.morph(target, fragment.children, { callbacks, morphStyle: "outerHTML", restoreFocus: true });
    },
  });

  function showState() {
    const { title, icon } = document.getElementById("live")?.dataset ?? {};
    if (!title) return;
    document.title = title;
    const link = document.getElementById("icon");
    if (link.getAttribute("href") !== icon) link.setAttribute("href", icon);
  }
  document.addEventListener("htmx:afterSettle", showState);
})();
