(() => {
  "use strict";
  const root = document.documentElement;
  const byId = id => document.getElementById(id);
  const read = id => JSON.parse(byId(id).textContent);
  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  // --- figures ---------------------------------------------------------------------------------------------------

  const colour = name => getComputedStyle(root).getPropertyValue(name).trim();
  const theme = () => ({
    "font.color": colour("--text"),
    "xaxis.linecolor": colour("--line"), "xaxis.tickcolor": colour("--line"),
    "yaxis.gridcolor": colour("--grid"),
    "hoverlabel.bgcolor": colour("--ground"), "hoverlabel.font.color": colour("--text"),
  });
  const drawn = new Set();
  const draw = (plot, figure) => {
    if (drawn.has(plot)) return;
    drawn.add(plot);
    Plotly.newPlot(plot, figure.data, figure.layout, PLOTLY_CONFIG);
    Plotly.relayout(plot, theme());
  };
  const plots = [...document.querySelectorAll(".plot")];
  const drawPlot = plot => draw(plot, read(plot.id + "-figure"));
  const whenSeen = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) drawPlot(entry.target);
  }, { rootMargin: "300px" });
  plots.forEach(plot => whenSeen.observe(plot));
  // Draw the remaining figures when the page is idle, so that search and print find them.
  const waiting = [...plots];
  const idle = window.requestIdleCallback || (work => setTimeout(work, 30));
  const next = () => {
    while (waiting.length && drawn.has(waiting[0])) waiting.shift();
    if (!waiting.length) return;
    drawPlot(waiting.shift());
    idle(next);
  };
  idle(next);
  const paint = () => drawn.forEach(plot => Plotly.relayout(plot, theme()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  addEventListener("beforeprint", () => {
    plots.forEach(drawPlot);
    paint();
  });
  addEventListener("afterprint", paint);

  // --- downloads -------------------------------------------------------------------------------------------------

  const cell = value => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = String(value).replace(/^[=+\-@\t\r]/, "'$&").replace(/\r/g, "\n");  // a spreadsheet must not read it as a formula
    return /[",\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  };
  const csv = rows => rows.map(row => row.map(cell).join(",") + "\n").join("");
  const plainText = html => {
    const area = document.createElement("textarea");  // decodes entities without creating elements
    area.innerHTML = html;
    return area.value;
  };
  const figureRows = group => {
    const rows = [["panel", "series", "x", "y", "value"]];
    for (const plot of group.querySelectorAll(".plot")) {
      const title = plot.closest("figure").querySelector("figcaption").textContent;
      for (const trace of read(plot.id + "-figure").data) {
        const name = plainText(trace.name || "");
        if (trace.type === "heatmap") {
          trace.y.forEach((y, i) => trace.x.forEach((x, j) => rows.push([title, name, x, y, trace.z[i][j]])));
        } else {
          (trace.x || []).forEach((x, i) => rows.push([title, name, x, trace.y[i], null]));
        }
      }
    }
    return rows;
  };
  const download = (name, text) => {
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    const link = element("a", null, { href: url, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  const tables = new Map();  // tables of trials, by the id of the table
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-csv]");
    if (!button) return;
    const id = button.dataset.csv;
    const given = byId(id + "-csv");
    const text = given ? JSON.parse(given.textContent)
      : tables.has(id) ? csv(tables.get(id).rows()) : csv(figureRows(byId(id)));
    download(id + ".csv", text);
  });

  // --- every trial -----------------------------------------------------------------------------------------------

  const at = (column, row) =>
    "all" in column ? column.all : "each" in column ? column.each[row] : column.of[column.at[row]];
  const shown = value => value === null || value === undefined || value === "" ? "–" : String(value);
  const inCell = (column, row) => {
    const value = at(column, row);
    return typeof value === "number" && "digits" in column ? value.toFixed(column.digits) : shown(value);
  };
  const STEP = 500;  // rows shown at first, and added by each click on "more"

  class Trials {
    constructor(section) {
      this.id = section.dataset.trials;
      this.data = read(this.id + "-trials-data");
      this.colours = read(this.id + "-colours");  // of the methods, the same as in the figures
      this.section = section;
      this.body = section.querySelector("tbody");
      this.status = section.querySelector("[role=status]");
      this.more = section.querySelector(".more");
      this.order = this.data.ids.map((_, row) => row);
      this.chosen = new Map();
      this.words = [];
      this.limit = STEP;
      this.sorted = null;
      this.texts = null;
      this.head();
      this.controls();
      this.more.addEventListener("click", () => { this.limit = Infinity; this.show(); });
      this.body.addEventListener("click", event => {
        const button = event.target.closest("button");
        if (button) openTrial(this, this.data.ids.indexOf(button.textContent));
      });
      this.show();
    }

    head() {
      const row = element("tr");
      ["Trial", ...this.data.main.map(column => column.name)].forEach((name, place) => {
        const head = element("th", null, { scope: "col" });
        const button = element("button", name, { type: "button" });
        button.addEventListener("click", () => this.sort(place - 1, head));
        head.append(button);
        row.append(head);
      });
      this.section.querySelector("thead").append(row);
    }

    controls() {
      const bar = this.section.querySelector(".controls");
      const field = (name, control) => {
        const label = element("label", name);
        control.setAttribute("aria-label", name);  // without this, the options would be part of the name
        label.append(control);
        bar.append(label);
      };
      const search = element("input", null, { type: "search" });
      search.addEventListener("input", () => {
        this.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        this.show();
      });
      field("Search all fields of a trial", search);
      this.data.main.forEach((column, place) => {
        const values = column.of || (column.each && [...new Set(column.each)]);
        if (!column.filter || !values || values.length > 40) return;
        const select = element("select");
        select.append(element("option", "all", { value: "" }));
        values.forEach((value, number) => select.append(element("option", shown(value), { value: number })));
        select.addEventListener("change", () => {
          if (select.value === "") this.chosen.delete(place);
          else this.chosen.set(place, values[Number(select.value)]);
          this.show();
        });
        field(column.name, select);
      });
    }

    sort(place, head) {
      const descending = head.getAttribute("aria-sort") === "ascending";
      head.closest("tr").querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const value = row => place < 0 ? this.data.ids[row] : at(this.data.main[place], row);
      const missing = one => one === null || one === undefined || one === "";
      this.order.sort((a, b) => {
        const x = value(a), y = value(b);
        if (missing(x) || missing(y)) return missing(x) - missing(y) || a - b;  // missing values are last in both directions
        const both = typeof x === "number" && typeof y === "number";
        const compared = both ? x - y : String(x) < String(y) ? -1 : String(x) > String(y) ? 1 : 0;
        return (descending ? -compared : compared) || a - b;
      });
      this.show();
    }

    text(row) {
      this.texts ||= this.data.ids.map((id, place) => {
        const columns = [...this.data.main, ...Object.values(this.data.details).flat()];
        return [id, ...columns.map(column => `${column.name}=${shown(at(column, place))}`)].join(" ").toLowerCase();
      });
      return this.texts[row];
    }

    found() {
      return this.order.filter(row =>
        [...this.chosen].every(([place, value]) => at(this.data.main[place], row) === value)
        && this.words.every(word => this.text(row).includes(word)));
    }

    show() {
      const found = this.found();
      const rows = document.createDocumentFragment();
      for (const row of found.slice(0, this.limit)) {
        const line = element("tr");
        const head = element("th", null, { scope: "row" });
        head.append(element("button", this.data.ids[row], { type: "button", "aria-haspopup": "dialog" }));
        line.append(head);
        for (const column of this.data.main) line.append(element("td", inCell(column, row)));
        rows.append(line);
      }
      this.body.replaceChildren(rows);
      const left = found.length - this.limit;
      this.status.textContent = `${found.length} of ${this.data.ids.length} trials`
        + (left > 0 ? `, the first ${this.limit} shown` : "");
      this.more.hidden = !(left > 0);
      this.more.textContent = `Show all ${found.length}`;
    }

    rows() {
      const columns = [...this.data.main, ...Object.values(this.data.details).flat()];
      const found = this.found();
      return [["trial_id", ...columns.map(column => column.name)],
        ...found.map(row => [this.data.ids[row], ...columns.map(column => at(column, row))])];
    }
  }

  // --- one trial -------------------------------------------------------------------------------------------------

  const dialog = byId("trial");
  const content = byId("trial-content");
  const pairs = (columns, row) => {
    const list = element("dl", null, { class: "pairs" });
    for (const column of columns) {
      const value = at(column, row);
      if (value === null || value === undefined || value === "") continue;
      list.append(element("dt", column.name), element("dd", String(value)));
    }
    return list;
  };
  const layout = () => ({
    height: 200, margin: { l: 48, r: 8, t: 8, b: 32 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12 }, showlegend: false, dragmode: false,
    xaxis: { zeroline: false, showgrid: false, showline: true }, yaxis: { zeroline: false, automargin: true },
  });
  const curvesOf = (data, row) => {
    const found = [];
    for (const name of data.curves.names) {
      for (const [place, grid, y] of data.curves.series[name] || []) {
        if (place === row) found.push([name, data.curves.epochs[grid], y]);
      }
    }
    return found;
  };
  const openTrial = (table, row) => {
    const { data } = table;
    const id = data.ids[row];
    byId("trial-title").textContent = `Trial ${id}`;
    content.replaceChildren(pairs(data.main, row));
    const curves = curvesOf(data, row);
    const color = table.colours[at(data.main[0], row)];
    const figures = [];
    if (curves.length) {
      content.append(element("h3", "Curves"));
      const panels = element("div", null, { class: "panels" });
      for (const [name, x, y] of curves) {
        const figure = element("figure");
        const plot = element("div", null, {
          role: "img", "aria-label": `${name} by epoch, from ${y[0]} to ${y[y.length - 1]}`,
        });
        plot.style.height = "200px";
        figure.append(element("figcaption", name), plot);
        panels.append(figure);
        const trace = { x, y, mode: "lines+markers", marker: { size: 4, color }, line: { color, width: 1.5 } };
        figures.push([plot, { data: [trace], layout: layout() }]);
      }
      content.append(panels);
      if (data.curves.thinned) content.append(element("p", "Long curves are thinned; the query gives every point.", { class: "quiet" }));
    } else if (data.curves.left_out) {
      content.append(element("p", "There are too many trials to include curves in the page; the query gives them.", { class: "quiet" }));
    }
    for (const [name, columns] of Object.entries(data.details)) {
      content.append(element("h3", name), pairs(columns, row));
    }
    for (const [name, texts] of Object.entries(data.texts)) {
      if (texts[id]) content.append(element("h3", name), element("pre", texts[id], { tabindex: "0" }));
    }
    content.append(element("h3", "Query"), element("pre",
      `twinbench query DIR "SELECT * FROM trials WHERE trial_id = '${id}'"\n`
      + `twinbench query DIR "SELECT name, epoch, value FROM curves WHERE trial_id = '${id}' ORDER BY ALL"\n`
      + `twinbench logs DIR ${id}`, { tabindex: "0" }));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    byId("trial-title").focus();
    figures.forEach(([plot, figure]) => draw(plot, figure));
    history.replaceState(null, "", "#trial-" + id);
  };
  byId("trial-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    for (const plot of content.querySelectorAll(".js-plotly-plot")) {
      Plotly.purge(plot);
      drawn.delete(plot);
    }
    content.replaceChildren();
    history.replaceState(null, "", location.pathname + location.search);
  });
  for (const section of document.querySelectorAll("[data-trials]")) {
    const table = new Trials(section);
    tables.set(table.id + "-trials-table", table);
  }
  const follow = () => {
    const wanted = location.hash.startsWith("#trial-") ? location.hash.slice(7) : "";
    for (const table of wanted ? tables.values() : []) {
      const row = table.data.ids.indexOf(wanted);
      if (row >= 0) return openTrial(table, row);
    }
  };
  addEventListener("hashchange", follow);
  follow();
})();
