"use strict";
(() => {
  const root = document.documentElement;
  const style = name => getComputedStyle(root).getPropertyValue(name).trim();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const figures = [...document.querySelectorAll("script.figure")].map(element => ({
    text: element.textContent, canvas: element.parentElement.querySelector(".canvas"), view: null,
  }));

  const config = { responsive: true, displayModeBar: false, showTips: false, scrollZoom: false, doubleClick: false };

  // Figures carry stand-ins for the theme's colours (report/look.py), so one text serves light and dark.
  function draw(figure) {
    const text = figure.text
      .replaceAll("#010203", style("--ink")).replaceAll("#010204", style("--muted"))
      .replaceAll("#010205", style("--line")).replaceAll("#010206", style("--paper"))
      .replaceAll("rgba(1,2,3,0.13)", style("--band"));
    const { figure: { data, layout }, views } = JSON.parse(text);
    const view = views[figure.view];
    if (view) data.forEach((trace, index) => { trace.visible = view.visible[index]; });
    const drawn = Plotly.react(figure.canvas, data, layout, config);
    return view ? drawn.then(() => Plotly.relayout(figure.canvas, view.layout)) : drawn;
  }
  const drawAll = () => figures.reduce((before, figure) => before.then(() => draw(figure)), Promise.resolve());

  const toggle = document.getElementById("theme");
  const label = () => { toggle.textContent = isDark() ? "Light" : "Dark"; };
  const retheme = () => { label(); return drawAll(); };
  toggle.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; retheme(); });
  dark.addEventListener("change", retheme);

  document.querySelectorAll(".switch").forEach(group => group.addEventListener("click", event => {
    const view = event.target.dataset.view;
    if (!view) return;
    group.querySelectorAll("button").forEach(button => button.setAttribute("aria-pressed", String(button === event.target)));
    const panels = group.closest(".group");
    figures.filter(figure => panels.contains(figure.canvas)).forEach(figure => { figure.view = view; draw(figure); });
  }));

  document.querySelectorAll("[data-format]").forEach(button => button.addEventListener("click", () => {
    const canvas = button.closest("figure").querySelector(".canvas");
    const format = button.dataset.format;
    if (format === "csv") {
      const { csv } = JSON.parse(button.closest("figure").querySelector("script.figure").textContent);
      save(csv, `${canvas.id}.csv`);
      return;
    }
    Plotly.downloadImage(canvas, { format, filename: canvas.id, scale: format === "png" ? 2 : 1 });
  }));

  // Tables travel compressed.
  function unpacked(packed) {
    const bytes = Uint8Array.from(atob(packed), character => character.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }
  async function save(packed, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([await unpacked(packed)], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  document.querySelectorAll("[data-packed]").forEach(button => button.addEventListener("click",
    () => save(button.dataset.packed, button.dataset.name)));

  // Paper is white and narrower than the window: draw for it, and go back afterwards.
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    figures.forEach(draw);
    figures.forEach(({ canvas }) => Plotly.relayout(canvas, { width: canvas.closest(".panels") ? 330 : 680 }));
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    retheme();
  });

  label();
  drawAll().then(() => { root.dataset.drawn = String(figures.length); });
})();
