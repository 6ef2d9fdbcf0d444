"use strict";
function bytes(base64) {
  const text = atob(base64), array = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) array[at] = text.charCodeAt(at);
  return array;
}

// Tables and plotly are stored compressed.
async function unpacked(packed) {
  return new Response(new Blob([bytes(packed)]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function save(packed, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([await unpacked(packed)], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

(() => {
  const root = document.documentElement;
  const style = name => getComputedStyle(root).getPropertyValue(name).trim();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const figures = [...document.querySelectorAll("script.figure")].map(element => ({
    text: element.textContent, canvas: element.parentElement.querySelector(".canvas"), view: null, axis: null,
    near: false, drawn: false,
  }));

  const config = { responsive: true, displayModeBar: false, showTips: false, scrollZoom: false, doubleClick: false };
  const library = document.getElementById("plotly");  // a page without figures has none
  const ready = library ? unpacked(library.textContent).then(text => {
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  }) : Promise.resolve();

  // plotly's arrays come as base64 of float32.
  const numbers = packed => new Float32Array(bytes(packed.bdata).buffer);

  // On a telephone the labels of rows (theme.row_axis) would take half of a figure: they stand above their rows, which
  // become higher.
  const narrow = canvas => canvas.clientWidth < 480;
  function labelsAbove(layout, canvas) {
    const { ticktext: labels, tickvals, tickfont, range, ticklabelstandoff } = layout.yaxis || {};
    if (!labels || !range || !ticklabelstandoff) return;
    layout.height += 20 * labels.length;
    canvas.style.height = `${layout.height}px`;
    const row = (layout.height - 80) / Math.abs(range[1] - range[0]);  // an axis may run downwards
    const texts = labels.map((label, index) => ({
      text: label.replace("<br>", " "), x: 0, xref: "paper", xanchor: "left", xshift: 2, y: tickvals[index],
      yshift: row / 2 - 8, font: tickfont, showarrow: false, borderpad: 0,
      ...(layout.meta?.labels === "covering" && { bgcolor: layout.paper_bgcolor }),
    }));
    layout.annotations = [...(layout.annotations || []), ...texts];
    layout.yaxis.showticklabels = false;
  }

  // Figures have placeholders for the theme's colours (pages/theme.py), so the same JSON serves light and dark. Changes
  // of the layout have paths as names, as those of Plotly.relayout, which would draw a second time.
  function put(layout, path, value) {
    const names = path.split("."), last = names.pop();
    names.reduce((place, name) => place[name] ??= {}, layout)[last] = value;
  }
  function draw(figure, more = {}) {
    const text = figure.text
      .replaceAll("#010203", style("--ink")).replaceAll("#010204", style("--muted"))
      .replaceAll("#010205", style("--line")).replaceAll("#010206", style("--paper"))
      .replaceAll("rgba(1,2,3,0.13)", style("--band"));
    const { figure: { data, layout }, views, axes } = JSON.parse(text);
    if (narrow(figure.canvas)) labelsAbove(layout, figure.canvas);
    const view = views[figure.view], axis = axes[figure.axis];
    if (view) data.forEach((trace, index) => { trace.visible = view.visible[index]; });
    if (axis) data.forEach((trace, index) => { trace.x = numbers(trace.x).map(x => x * axis.scale[index]); });
    const changes = { ...(view && view.layout), ...(axis && axis.layout), ...more };
    Object.entries(changes).forEach(([path, value]) => put(layout, path, value));
    return Plotly.react(figure.canvas, data, layout, config);
  }
  // A figure is drawn when a reader comes near it, and again when the page's colours have changed: a page of hundreds
  // of figures opens as quickly as one of ten. In a closed element nothing is near. One is drawn after the other, so
  // that the page can be scrolled meanwhile; data-drawn is set when no more is to be drawn.
  const waiting = figure => figure.near && !figure.drawn;
  let drawing = null;
  function drawNear() {
    drawing ||= drawWaiting().finally(() => { drawing = null; });
  }
  async function drawWaiting() {
    delete root.dataset.drawn;
    await ready;
    for (let figure; (figure = figures.find(waiting));) {
      figure.drawn = true;
      await draw(figure);
      await new Promise(resolve => setTimeout(resolve));
    }
    root.dataset.drawn = "near";
  }
  function redraw(changed) {
    changed.forEach(figure => { figure.drawn = false; });
    drawNear();
  }
  const observer = new IntersectionObserver(entries => {
    entries.forEach(({ target, isIntersecting }) => {
      figures.find(({ canvas }) => canvas === target).near = isIntersecting;
    });
    drawNear();
  }, { rootMargin: "100%" });

  const toggle = document.getElementById("theme");
  const label = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
  const retheme = () => { label(); redraw(figures); };
  toggle.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; retheme(); });
  dark.addEventListener("change", retheme);

  document.querySelectorAll(".switch").forEach(group => group.addEventListener("click", event => {
    const { view, axis } = event.target.dataset;
    if (view === undefined && axis === undefined) return;
    group.querySelectorAll("button").forEach(button => button.setAttribute("aria-pressed", String(button === event.target)));
    const panels = group.closest(".group, figure"), changed = figures.filter(({ canvas }) => panels.contains(canvas));
    changed.forEach(figure => { if (view === undefined) figure.axis = axis; else figure.view = view; });
    redraw(changed);
  }));

  document.querySelectorAll("[data-format]").forEach(button => button.addEventListener("click", () => {
    const canvas = button.closest("figure").querySelector(".canvas");
    const format = button.dataset.format;
    if (format === "csv") save(JSON.parse(button.closest("figure").querySelector("script.figure").textContent).csv, `${canvas.id}.csv`);
    else Plotly.downloadImage(canvas, { format, filename: canvas.id, scale: format === "png" ? 2 : 1 });
  }));

  document.querySelectorAll("[data-packed]").forEach(button => button.addEventListener("click",
    () => save(button.dataset.packed, button.dataset.name)));

  // Paper is white and narrower than the window: draw the figures for it, and restore them after printing.
  // Answers that are folded are opened, because paper does not open.
  let before, opened = [];
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    opened = [...document.querySelectorAll(".lines details:not([open])")];
    opened.forEach(answer => { answer.open = true; });
    figures.filter(({ canvas }) => canvas.checkVisibility()).forEach(figure => {
      figure.drawn = true;
      draw(figure, { width: figure.canvas.closest(".panels, .pairs") ? 330 : 680 });
    });
  });
  addEventListener("afterprint", () => {
    opened.forEach(answer => { answer.open = false; });
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    retheme();
  });

  label();
  // What is above the reader must not grow when it is drawn.
  figures.filter(({ canvas }) => canvas.offsetParent && narrow(canvas))
    .forEach(({ text, canvas }) => labelsAbove(JSON.parse(text).figure.layout, canvas));
  figures.forEach(({ canvas }) => observer.observe(canvas));
  if (!figures.length) drawNear();
})();
