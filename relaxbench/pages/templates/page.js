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
    const room = canvas.clientWidth - 28;
    const tall = layout.meta?.room;  // marks stand close below the names: these keep to one line
    const lines = labels.map(label => {
      const one = label.replace("<br>", " ");
      return widthOf(one) <= room ? one : tall ? shortened(one, room) : label;
    });
    const two = lines.some(line => line.includes("<br>")) ? LINE : 0;
    layout.height += ((tall ?? 20) + two) * labels.length;
    const row = (layout.height - 80) / Math.abs(range[1] - range[0]);  // an axis may run downwards
    const texts = lines.map((text, index) => ({
      text, x: 0, xref: "paper", xanchor: "left", align: "left", xshift: 2, y: tickvals[index], yanchor: "top",
      yshift: row / 2, font: tickfont, showarrow: false, borderpad: 0,
      ...(layout.meta?.labels === "covering" && { bgcolor: layout.paper_bgcolor }),
    }));
    layout.annotations = [...(layout.annotations || []), ...texts];
    layout.yaxis.showticklabels = false;
  }

  // Long keys of panels and titles of axes would be cut at the edges of a narrow figure: they get further lines.
  const LINE = 16;
  const pen = document.createElement("canvas").getContext("2d");
  const widthOf = (text, size = 13) => {
    pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
    return pen.measureText(text.replace(/<[^>]*>/g, "")).width;
  };
  function shortened(text, room) {
    const letters = [...text];
    while (letters.length && widthOf(`${letters.join("")}…`) > room) letters.pop();
    return `${letters.join("").replace(/&[^;\s]*$/, "")}…`;  // no half of an escaped letter
  }
  function inLines(text, words, room, size) {
    const parts = text.split("<br>").flatMap(line => {
      const made = [];
      for (const word of line.split(words)) {
        const longer = `${made.at(-1)}${words}${word}`;
        if (made.length && widthOf(longer, size) <= room) made[made.length - 1] = longer; else made.push(word);
      }
      return made;
    });
    return parts.join("<br>");
  }
  const linesOf = text => text.split("<br>").length;
  function breakLines(layout, canvas) {
    const width = canvas.clientWidth, title = layout.xaxis?.title;
    if (title?.text) {
      const text = inLines(title.text, " ", width - 70, 13);
      layout.height += LINE * (linesOf(text) - linesOf(title.text));
      title.text = text;
    }
    const keys = (layout.annotations || []).filter(({ name }) => name === "key");
    const texts = keys.map(({ text, font }) => inLines(text, "   ", width - 72, font.size));
    const more = Math.max(0, ...texts.map((text, index) => linesOf(text) - linesOf(keys[index].text)));
    keys.forEach((key, index) => { key.text = texts[index]; key.align = "left"; });
    layout.margin.t += LINE * more;
    layout.height += LINE * more;
  }
  function fit(layout, canvas) {
    const { height } = layout;
    labelsAbove(layout, canvas);
    breakLines(layout, canvas);
    if (layout.height !== height) canvas.style.height = `${layout.height}px`;
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
    if (narrow(figure.canvas)) fit(layout, figure.canvas);
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
    .forEach(({ text, canvas }) => fit(JSON.parse(text).figure.layout, canvas));
  figures.forEach(({ canvas }) => observer.observe(canvas));
  if (!figures.length) drawNear();
})();
