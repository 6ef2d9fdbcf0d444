"use strict";
(() => {
  const PAUSE = 2000;  // milliseconds
  const find = id => document.getElementById(id);
  const count = number => number.toLocaleString("en");
  const ago = seconds => seconds < 120 ? `${Math.round(seconds)} s ago` : seconds < 7200
    ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;

  // Text is only ever set as text: names may hold anything.
  function element(tag, text = "", kind = "") {
    const made = document.createElement(tag);
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }
  function named(tag, text) {
    const made = element(tag);
    made.append(element("bdi", text));
    return made;
  }

  // A part of the page is built anew only where its numbers have changed: what a reader selects stays selected.
  const shown = {};
  function fill(id, rows, build) {
    const text = JSON.stringify(rows);
    if (shown[id] === text) return;
    shown[id] = text;
    find(id).replaceChildren(...rows.map(build));
  }

  function bar([done, planned]) {
    const cell = element("td", planned ? `${count(done)} / ${count(planned)}` : "–", "n");
    if (planned) {
      const drawn = element("progress");
      drawn.max = planned;
      drawn.value = done;
      cell.append(drawn);
    }
    return cell;
  }
  function method(row) {
    const made = element("tr");
    made.append(named("td", row.problem), named("th", row.method), ...Object.values(row.phases).map(bar),
      element("td", count(row.running), "n"), element("td", count(row.failed), "n"),
      element("td", row.best === null ? "–" : row.best.toPrecision(4), "n"));
    made.querySelector("th").scope = "row";
    return made;
  }
  function worker(row) {
    const made = element("tr");
    made.append(named("th", row.name), element("td", row.device), element("td", row.doing),
      element("td", count(row.running), "n"), element("td", count(row.finished), "n"),
      element("td", row.seen, "n"));
    made.querySelector("th").scope = "row";
    return made;
  }
  function verdict(row) {
    const made = element("li", "", row.role), who = element("p", "", "who"), title = element("strong");
    title.append(element("bdi", row.title));
    who.append(element("span", row.verdict, `badge ${row.verdict.replaceAll(" ", "-")}`), " ", title);
    made.append(who, element("p", row.sentence));
    return made;
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
      : "Provisional: the study goes on, and who looks often and stops at a good moment finds what is not there.";
    fill("answers", state.verdicts.filter(row => row.role !== "baseline"), verdict);
    fill("methods", state.methods, method);
    fill("workers", state.workers.map(row => ({ ...row, silent: 0, seen: (row.gone ? "gone, " : "") + ago(row.silent) })), worker);
    find("nobody").hidden = state.workers.length > 0;
    find("somebody").hidden = state.workers.length === 0;
    document.title = `${Math.floor(100 * state.done / (state.planned || 1))} % · ${state.study} · relaxbench`;
    complain(state.failure && `Mind: ${state.failure}`);
  }
  function complain(text) {
    find("away").textContent = text;
    find("away").hidden = !text;
  }

  async function look() {
    try {
      const state = await (await fetch("/state.json")).json();
      if (state.study) show(state); else complain(`The study cannot be read: ${state.failure}`);
    } catch {
      complain("The server does not answer: it has ended, and these numbers are its last.");
    }
    setTimeout(look, PAUSE);
  }
  look();
})();
