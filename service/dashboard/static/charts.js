// Draws the page's figures: JSON in <script type="application/json" id="NAME-data">, drawn into <div class="plot" id="NAME">.
// Colours are CSS variables ("var(--arm-0)"), looked up here, so that only the style sheet has the themes.
"use strict";

(() => {
  const CONFIG = { displayModeBar: false, responsive: true, showTips: false, doubleClick: false };
  const RANGE = /^([xy]axis\d*)\.range\[([01])\]$/;
  const VARIABLE = /^var\((--[\w-]+)\)$/;
  const isTouch = window.matchMedia("(pointer: coarse)");
  const isDark = window.matchMedia("(prefers-color-scheme: dark)");
  const hiddenArms = new Set();
  const drawn = new Map();
  const zooms = new Map();

  function themed(value, style) {
    if (typeof value === "string") {
      const variable = VARIABLE.exec(value);
      return variable ? style.getPropertyValue(variable[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
    }
    return value;
  }

  function draw(plot, force) {
    const source = document.getElementById(`${plot.id}-data`);
    if (!source || (!force && drawn.get(plot) === source.textContent)) return;
    drawn.set(plot, source.textContent);
    const figure = themed(JSON.parse(source.textContent), getComputedStyle(document.documentElement));
    for (const trace of figure.data) {
      trace.visible = !(trace.meta && hiddenArms.has(trace.meta.arm));
    }
    // On touch screens, dragging must scroll the page, not zoom a chart.
    figure.layout.dragmode = isTouch.matches ? false : "zoom";
    for (const [axis, range] of Object.entries(zooms.get(plot) ?? {})) {
      Object.assign(figure.layout[axis], { range: [...range], autorange: false });
    }
    Plotly.react(plot, figure.data, figure.layout, CONFIG);
    if (!zooms.has(plot)) watchZoom(plot);
  }

  // Not Plotly's `uirevision`, which drops the zoom as soon as new data have another range.
  function watchZoom(plot) {
    zooms.set(plot, {});
    plot.on("plotly_relayout", (change) => {
      for (const [key, value] of Object.entries(change)) {
        const part = RANGE.exec(key);
        if (part) (zooms.get(plot)[part[1]] ??= [])[Number(part[2])] = value;
      }
    });
    plot.on("plotly_doubleclick", () => {
      zooms.set(plot, {});
      draw(plot, true);
    });
  }

  // One chart for each frame, so that the first is seen before the others are drawn.
  const waiting = [];
  function drawNext() {
    const plot = waiting.shift();
    if (plot.isConnected) draw(plot, false);
    if (waiting.length) requestAnimationFrame(() => setTimeout(drawNext));
  }

  const seen = new IntersectionObserver(
    (entries) => {
      const isIdle = waiting.length === 0;
      for (const entry of entries) {
        if (entry.isIntersecting) {
          seen.unobserve(entry.target);
          waiting.push(entry.target);
        }
      }
      if (isIdle && waiting.length) drawNext();
    },
    { rootMargin: "800px" },
  );

  // New charts are drawn when they come near the viewport; existing charts get new data and keep their zoom.
  function refresh(force) {
    for (const plot of drawn.keys()) {
      if (!plot.isConnected) {
        Plotly.purge(plot);
        drawn.delete(plot);
        zooms.delete(plot);
      }
    }
    for (const plot of document.querySelectorAll(".plot")) {
      if (drawn.has(plot)) draw(plot, force);
      else seen.observe(plot);
    }
  }

  function showArms() {
    for (const box of document.querySelectorAll("[data-arm]")) {
      if (box.checked) hiddenArms.delete(box.dataset.arm);
      else hiddenArms.add(box.dataset.arm);
    }
    refresh(true);
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-arm]")) showArms();
  });
  document.addEventListener("htmx:afterSettle", () => refresh(false));
  isDark.addEventListener("change", () => refresh(true));
  isTouch.addEventListener("change", () => refresh(true));
  window.addEventListener("beforeprint", () => document.querySelectorAll(".plot").forEach((plot) => plot.offsetParent && draw(plot, false)));
  showArms();
})();
