// Show the tables of the page: unpack them when they become visible, sort by a click, search by words.
(() => {
  const place = document.querySelector("[data-browse]");
  if (!place) return;
  const ROWS = 50;
  const choice = place.querySelector("select"), search = place.querySelector("input");
  const [head, body, status] = ["thead", "tbody", "[role=status]"].map(part => place.querySelector(part));
  const state = { columns: [], rows: [], shown: [], by: null, descending: false, first: 0 };

  // Parse CSV: quoted fields may contain commas, line breaks and doubled quotes.
  function parse(text) {
    const rows = [[]];
    for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/g)) {
      rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
      if (end === "\n") rows.push([]);
      if (end === "") break;
    }
    return rows.filter(row => row.length > 1 || row[0]);
  }

  // Params stand there twice, as JSON and as columns of their own: show these, because each can be sorted.
  function spread([columns, ...rows]) {
    const kept = cells => cells.filter((_, index) => columns[index] !== "params");
    return [kept(columns), rows.map(kept)];
  }

  const numeric = text => (text.trim() === "" ? NaN : Number(text));
  const shorter = text => {
    const value = numeric(text);
    return Number.isFinite(value) && !Number.isInteger(value) ? String(Number(value.toPrecision(5))) : text;
  };
  const compared = (a, b) => {
    const [x, y] = [numeric(a), numeric(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a.localeCompare(b);
    return x - y;
  };
  const element = (name, text, attributes = {}) => {
    const node = Object.assign(document.createElement(name), attributes);
    node.textContent = text;
    return node;
  };

  function select() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    state.shown = state.rows.filter(row => {
      const text = row.join("\n").toLowerCase();
      return words.every(word => text.includes(word));
    });
    if (state.by !== null) {
      const sign = state.descending ? -1 : 1;
      state.shown.sort((a, b) => {
        const [x, y] = [a[state.by], b[state.by]];
        return x === "" || y === "" ? (x === "") - (y === "") : sign * compared(x, y);  // missing values come last
      });
    }
    state.first = 0;
    show();
  }

  function show() {
    const { columns, shown, first } = state;
    head.replaceChildren(element("tr", ""));
    columns.forEach((name, index) => {
      const cell = element("th", "", { scope: "col" });
      const sorted = state.by === index;
      cell.setAttribute("aria-sort", sorted ? (state.descending ? "descending" : "ascending") : "none");
      const button = element("button", name + (sorted ? (state.descending ? " ↓" : " ↑") : ""), { type: "button" });
      button.addEventListener("click", () => {
        state.descending = sorted && !state.descending;
        state.by = index;
        select();
        head.querySelectorAll("button")[index].focus();
      });
      cell.append(button);
      head.firstChild.append(cell);
    });
    body.replaceChildren(...shown.slice(first, first + ROWS).map(row => {
      const line = element("tr", "");
      line.append(...row.map(text => element("td", shorter(text), { className: Number.isNaN(numeric(text)) ? "" : "n", title: text })));
      return line;
    }));
    const last = Math.min(first + ROWS, shown.length);
    status.textContent = shown.length ? `rows ${first + 1} to ${last} of ${shown.length.toLocaleString("en")}` : "no row contains all these words";
    place.querySelectorAll("[data-step]").forEach(button => {
      button.disabled = button.dataset.step < 0 ? first === 0 : last === shown.length;
    });
  }

  async function open() {
    const button = document.querySelector(`[data-packed][data-name$="-${choice.value}.csv"]`);
    [state.columns, state.rows] = spread(parse(await unpacked(button.dataset.packed)));
    [state.by, state.descending] = [null, false];
    select();
  }

  choice.addEventListener("change", open);
  search.addEventListener("input", select);
  place.querySelectorAll("[data-step]").forEach(button => button.addEventListener("click", () => {
    state.first += Number(button.dataset.step) * ROWS;
    show();
  }));
  new IntersectionObserver((entries, observer) => {
    if (!entries.some(entry => entry.isIntersecting)) return;
    observer.disconnect();
    open();
  }, { rootMargin: "800px" }).observe(place);
})();
