// Draws the page's figures: JSON in <script type="application/json" id="NAME-data">, drawn into <div class="plot" id="NAME">.
// Colours are CSS variables ("var(--arm-0)"), looked up here, so that only the style sheet has the themes.
// The address has what the reader changed: ?hide=ARM, ?zoom=CHART_AXIS_FROM_TO, ?x=step or second, ?y=log or linear.
"use strict";

(() => {
  const CONFIG = { displayModeBar: false, responsive: true, showTips: false, doubleClick: false };
  const RANGE = /^([xy]axis\d*)\.range\[([01])\]$/;
  const ZOOM = /^([\w-]+)_([xy]axis\d*)_([^_]+)_([^_]+)$/;
  const VARIABLE = /^var\((--[\w-]+)\)$/;
  const OWN = ["hide", "zoom", "x", "y"];
  const EXPORT = { width: 1000, height: 620 };
  const PRINT_WIDTH = 690;
  const isTouch = window.matchMedia("(pointer: coarse)");
  const isDark = window.matchMedia("(prefers-color-scheme: dark)");
  const asked = new URLSearchParams(location.search);
  const hiddenArms = new Set(asked.getAll("hide"));
  const drawn = new Map();
  // By chart and axis; also of charts that are not drawn yet.
  const zooms = new Map();
  const watched = new WeakSet();
  for (const text of asked.getAll("zoom")) {
    const [, chart, axis, from, to] = ZOOM.exec(text) ?? [];
    if (chart && Number.isFinite(Number(from)) && Number.isFinite(Number(to))) {
      zooms.set(chart, { ...zooms.get(chart), [axis]: [Number(from), Number(to)] });
    }
  }

  const chosen = (name) => document.querySelector(`input[data-scale="${name}"]:checked`)?.value ?? "";

  // The part of the query that this page's script writes.
  function written() {
    const query = new URLSearchParams();
    for (const arm of [...hiddenArms].sort()) query.append("hide", arm);
    for (const [chart, axes] of zooms) {
      for (const [axis, range] of Object.entries(axes)) {
        query.append("zoom", [chart, axis, ...range.map((end) => Number(Number(end).toPrecision(5)))].join("_"));
      }
    }
    for (const name of ["x", "y"]) if (chosen(name)) query.append(name, chosen(name));
    return query;
  }

  function withWritten(search) {
    const query = new URLSearchParams(search);
    for (const name of OWN) query.delete(name);
    for (const [name, value] of written()) query.append(name, value);
    return query.toString();
  }

  function remember() {
    const query = withWritten(location.search);
    history.replaceState(history.state, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
  }

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

  // Charts by epoch can be drawn against steps and seconds, with either scale.
  function rescale(figure) {
    const steps = figure.layout.meta?.steps;
    if (!steps) return;
    const against = chosen("x");
    const scale = chosen("y");
    const { xaxis, yaxis } = figure.layout;
    if (against) {
      for (const trace of figure.data) {
        const each = steps[trace.meta.arm];
        if (against === "second") trace.x = trace.customdata;
        else if (each) trace.x = trace.x.map((epoch) => (epoch === null ? null : epoch * each));
        else trace.visible = false;
      }
      Object.assign(xaxis, { dtick: undefined, tickformat: undefined, range: undefined });
      xaxis.title.text = against === "second" ? "training seconds" : "optimizer steps";
    }
    if (scale === "log") {
      // A log scale has no place for 0.
      if (!figure.data.some((trace) => trace.y.some((value) => value > 0))) return;
      for (const trace of figure.data) trace.y = trace.y.map((value) => (value > 0 ? value : null));
    }
    if (scale && scale !== yaxis.type) {
      Object.assign(yaxis, { type: scale, dtick: undefined, range: undefined });
      if (scale === "log" && !yaxis.tickformat) yaxis.tickformat = "~g";
    }
  }

  // An axis of seconds gets ticks at round times, in the unit that fits what is in view.
  const TIME_STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800];
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  function writeTimes(figure) {
    const axis = figure.layout[figure.layout.meta?.time];
    if (!axis) return;
    const places = figure.data.flatMap((trace) => trace.x).filter((x) => x !== null);
    const [from, to] = axis.range ?? [Math.min(0, ...places), Math.max(1, ...places)];
    const step = TIME_STEPS.find((each) => (to - from) / each <= 6) ?? TIME_STEPS.at(-1);
    const [size, unit] = UNITS.find(([seconds]) => step >= seconds) ?? UNITS.at(-1);
    const first = Math.ceil(from / step - 1e-9);
    const ticks = Array.from({ length: Math.max(0, Math.floor(to / step + 1e-9) - first + 1) }, (_, n) => (first + n) * step);
    Object.assign(axis, {
      tickmode: "array",
      tickvals: ticks,
      ticktext: ticks.map((tick) => `${Number((tick / size).toPrecision(6))} ${unit}`),
    });
  }

  function figureOf(id) {
    const source = document.getElementById(`${id}-data`);
    if (!source) return null;
    const figure = themed(JSON.parse(source.textContent), getComputedStyle(document.documentElement));
    for (const trace of figure.data) {
      trace.visible = !(trace.meta && hiddenArms.has(trace.meta.arm));
    }
    rescale(figure);
    for (const [axis, range] of Object.entries(zooms.get(id) ?? {})) {
      // The step between ticks is chosen for the whole range.
      if (figure.layout[axis]) Object.assign(figure.layout[axis], { range: [...range], autorange: false, dtick: undefined });
    }
    writeTimes(figure);
    return figure;
  }

  function draw(plot, force) {
    const source = document.getElementById(`${plot.id}-data`);
    if (!source || (!force && drawn.get(plot) === source.textContent)) return;
    drawn.set(plot, source.textContent);
    const figure = figureOf(plot.id);
    // On touch screens, dragging must scroll the page, not zoom a chart.
    figure.layout.dragmode = isTouch.matches ? false : "zoom";
    Plotly.react(plot, figure.data, figure.layout, CONFIG);
    if (!watched.has(plot)) watchZoom(plot);
  }

  // Not Plotly's `uirevision`, which drops the zoom as soon as new data have another range.
  function watchZoom(plot) {
    watched.add(plot);
    plot.on("plotly_relayout", (change) => {
      const axes = { ...zooms.get(plot.id) };
      let isZoomed = false;
      for (const [key, value] of Object.entries(change)) {
        const part = RANGE.exec(key);
        if (!part) continue;
        isZoomed = true;
        (axes[part[1]] = [...(axes[part[1]] ?? [])])[Number(part[2])] = value;
      }
      if (!isZoomed) return;
      zooms.set(plot.id, axes);
      remember();
      draw(plot, true);
    });
    plot.on("plotly_doubleclick", () => {
      zooms.delete(plot.id);
      remember();
      draw(plot, true);
    });
    // In print, the drawings shrink to the page.
    plot.on("plotly_afterplot", () => {
      for (const svg of plot.querySelectorAll(".main-svg")) {
        svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
      }
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
      }
    }
    for (const plot of document.querySelectorAll(".plot")) {
      if (drawn.has(plot)) draw(plot, force);
      else seen.observe(plot);
    }
  }

  // A figure that stands for itself: with its title and a key of the arms in it.
  function completed(id) {
    const figure = figureOf(id);
    const title = document.getElementById(`${id}-title`).textContent;
    const keyed = new Set();
    for (const trace of figure.data) {
      const isLine = trace.name && trace.visible && !trace.fill && /markers/.test(trace.mode);
      trace.showlegend = Boolean(isLine && !keyed.has(trace.name));
      if (trace.showlegend) keyed.add(trace.name);
    }
    const paper = getComputedStyle(document.documentElement).getPropertyValue("--paper").trim();
    Object.assign(figure.layout, {
      ...EXPORT,
      autosize: false,
      paper_bgcolor: paper,
      showlegend: keyed.size > 1,
      legend: { orientation: "h", traceorder: "normal", y: 1.02, yanchor: "bottom", x: 0 },
      title: { text: title, x: 0.01, xanchor: "left", font: { size: 16 } },
      margin: { l: 70, r: 20, t: 90, b: 60 },
    });
    return figure;
  }

  async function svgOf(id) {
    const address = await Plotly.toImage(completed(id), { format: "svg", ...EXPORT });
    return new Blob([decodeURIComponent(address.slice(address.indexOf(",") + 1))], { type: "image/svg+xml" });
  }

  async function pngOf(id) {
    const address = URL.createObjectURL(await svgOf(id));
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * EXPORT.width, 2 * EXPORT.height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(address);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  // Every point that is drawn, with full precision.
  function csvOf(id) {
    const figure = figureOf(id);
    const quoted = (value) => (/[",\r\n]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));
    // A row of names stands at a whole number, and its marks a little above or below.
    const named = (axis, value) => figure.layout[axis]?.ticktext?.[Math.round(value)] ?? value;
    const title = (axis) => figure.layout[axis]?.title?.text || axis;
    const rows = [["arm", "series", "mark", title("xaxis"), "value", "value of", "label"]];
    figure.data.forEach((trace, n) => {
      // Marks at the edge stand for values outside the axis, which the lines have.
      if (trace.meta?.outside) return;
      const axis = `yaxis${(trace.yaxis ?? "y").slice(1)}`;
      const kind = trace.fill ? "band" : trace.mode;
      trace.x.forEach((x, i) => {
        const y = trace.y[i];
        if (x === null || y === null) return;
        rows.push([trace.name, n, kind, named("xaxis", x), named(axis, y), title(axis), trace.text?.[i]]);
      });
    });
    const text = rows.map((row) => row.map(quoted).join(",")).join("\r\n");
    return new Blob([`${text}\r\n`], { type: "text/csv" });
  }

  const WRITERS = { png: pngOf, svg: svgOf, csv: csvOf };
  async function save(id, format) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await WRITERS[format](id));
    link.download = `${location.pathname.split("/").at(-1)}-${id}.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function showArms() {
    for (const box of document.querySelectorAll("[data-arm]")) {
      if (box.checked) hiddenArms.delete(box.dataset.arm);
      else hiddenArms.add(box.dataset.arm);
    }
    refresh(true);
  }

  // Boxes and switches that the address names; also those that come with a live update.
  function restore() {
    for (const box of document.querySelectorAll("[data-arm]")) box.checked = !hiddenArms.has(box.dataset.arm);
    for (const name of ["x", "y"]) {
      const wanted = asked.get(name);
      const input = wanted && document.querySelector(`input[data-scale="${name}"][value="${CSS.escape(wanted)}"]`);
      if (input) {
        input.checked = true;
        asked.delete(name);
      }
    }
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-arm]")) {
      showArms();
    } else if (event.target.matches("[data-scale]")) {
      // A zoom of a curve ends with its scale.
      for (const plot of document.querySelectorAll("#training .plot")) zooms.delete(plot.id);
      refresh(true);
    } else return;
    remember();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-save]");
    if (button) save(button.dataset.chart, button.dataset.save);
    // What the reader changed stays when a link or a form leads to the same page.
    const link = event.target.closest("a[href]");
    if (link && link.origin === location.origin && link.pathname === location.pathname && link.search !== location.search) {
      const query = withWritten(link.search);
      link.search = query ? `?${query}` : "";
    }
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "get" || new URL(form.action).pathname !== location.pathname) return;
    for (const [name, value] of written()) {
      const field = Object.assign(document.createElement("input"), { type: "hidden", name, value });
      form.append(field);
    }
  });
  document.addEventListener("htmx:afterSettle", () => {
    restore();
    refresh(false);
    // The section may come with the first analysis.
    if (isNamed) openNamed();
  });
  isDark.addEventListener("change", () => refresh(true));
  document.addEventListener("themechange", () => refresh(true));
  isTouch.addEventListener("change", () => refresh(true));
  // Drawn for the width of a sheet, so that texts keep their size; the style sheet fits them to any other width. Print is light.
  window.addEventListener("beforeprint", () => {
    const dark = document.getElementById("dark");
    const { media } = dark;
    dark.media = "not all";
    for (const plot of document.querySelectorAll(".plot")) {
      if (!plot.checkVisibility()) continue;
      draw(plot, true);
      Plotly.relayout(plot, { width: PRINT_WIDTH, height: plot.clientHeight });
    }
    dark.media = media;
  });
  window.addEventListener("afterprint", () => refresh(true));
  // A section that the address names opens, and a section that the reader opens is named by the address.
  let isNamed = location.hash.length > 1;
  function openNamed() {
    const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!named) return;
    isNamed = false;
    const closed = [];
    for (let part = named.closest("details"); part; part = part.parentElement.closest("details")) {
      if (!part.open) closed.push(part);
    }
    for (const part of closed) part.open = true;
    if (closed.length) named.scrollIntoView();
  }
  document.addEventListener(
    "toggle",
    ({ target }) => {
      if (target.matches("details.more[open]")) history.replaceState(history.state, "", `#${target.id}`);
    },
    true,
  );
  window.addEventListener("hashchange", openNamed);
  restore();
  showArms();
  openNamed();
})();
