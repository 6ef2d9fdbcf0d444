"use strict";
(() => {
  const PAUSE = 2000;  // milliseconds
  const find = id => document.getElementById(id);
  const count = number => number.toLocaleString("en");
  const ago = seconds => seconds < 120 ? `${Math.round(seconds)} s ago` : seconds < 7200
    ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;

  // Set text as text, never as HTML: names may contain anything.
  function element(tag, text = "", kind = "") {
    const node = document.createElement(tag);
    node.textContent = text;
    if (kind) node.className = kind;
    return node;
  }
  function nameElement(tag, text) {
    const node = element(tag);
    node.append(element("bdi", text));
    return node;
  }

  // Rebuild a part of the page only when its numbers change, so that the reader's selection is kept.
  const current = {};
  function fill(id, rows, build) {
    const text = JSON.stringify(rows);
    if (current[id] === text) return;
    current[id] = text;
    find(id).replaceChildren(...rows.map(build));
  }

  function bar([done, planned]) {
    const cell = element("td", planned ? `${count(done)} / ${count(planned)}` : "–", "n");
    if (planned) {
      const progress = element("progress");
      progress.max = planned;
      progress.value = done;
      cell.append(progress);
    }
    return cell;
  }
  function method(row) {
    const line = element("tr");
    line.append(nameElement("td", row.problem), nameElement("th", row.method), element("td", row.look), ...Object.values(row.phases).map(bar),
      element("td", count(row.running), "n"), element("td", count(row.failed), "n"),
      element("td", row.best === null ? "–" : row.best.toPrecision(4), "n"));
    line.querySelector("th").scope = "row";
    return line;
  }
  function worker(row) {
    const line = element("tr");
    line.append(nameElement("th", row.name), element("td", row.device), element("td", row.doing),
      element("td", count(row.running), "n"), element("td", count(row.finished), "n"),
      element("td", row.seen, "n"));
    line.querySelector("th").scope = "row";
    return line;
  }
  function verdict(row) {
    const item = element("li", "", row.role), heading = element("p", "", "who"), title = element("strong");
    title.append(element("bdi", row.title));
    heading.append(element("span", row.verdict, `badge ${row.verdict.replaceAll(" ", "-")}`), " ", title);
    item.append(heading, element("p", row.sentence));
    return item;
  }

  function show(state) {
    const lead = find("lead"), link = element("a", "the report");
    lead.textContent = `${count(state.done)} of ${count(state.planned)} trials are done. `
      + (state.finished ? "The study is finished" : "The study is not finished") + (state.report ? ": " : ".");
    if (state.report) {
      link.href = state.report;
      lead.append(link, ` of ${new Date(1000 * state.written).toLocaleTimeString()}.`);
    }
    find("all").max = state.planned || 1;
    find("all").value = state.done;
    find("provisional").textContent = !state.report ? "The first report is being written." : state.finished ? ""
      : `${state.look.charAt(0).toUpperCase()}${state.look.slice(1)}. Stopping at a favourable moment produces false verdicts.`;
    fill("answers", state.verdicts.filter(row => row.role !== "baseline"), verdict);
    fill("methods", state.methods, method);
    fill("workers", state.workers.map(row => ({ ...row, silent: 0, seen: (row.gone ? "gone, " : "") + ago(row.silent) })), worker);
    find("no-workers").hidden = state.workers.length > 0;
    find("worker-table").hidden = state.workers.length === 0;
    document.title = `${Math.floor(100 * state.done / (state.planned || 1))} % · ${state.study} · relaxbench`;
    warn(state.failure && `Warning: ${state.failure}`);
  }
  function warn(text) {
    find("away").textContent = text;
    find("away").hidden = !text;
  }

  async function look() {
    try {
      const state = await (await fetch("/state.json")).json();
      if (state.study) show(state); else warn(`The study cannot be read: ${state.failure}`);
    } catch {
      warn("The server does not answer any more. The numbers are the last that it sent.");
    }
    setTimeout(look, PAUSE);
  }
  look();
})();
