for (const box of document.querySelectorAll(".items")) {
  const table = box.querySelector("table"), body = table.tBodies[0], rows = [...body.rows];
  const bar = document.createElement("p"), pick = document.createElement("select"), find = document.createElement("input"), count = document.createElement("span");
  bar.className = "bar";
  for (const value of ["all", "changed", "gained", "lost", "flipped", "same"]) pick.add(new Option(value, value));
  pick.setAttribute("aria-label", "Outcome");
  find.type = "search";
  find.placeholder = "words of the item";
  find.setAttribute("aria-label", "Words of the item");
  count.setAttribute("aria-live", "polite");
  const filter = () => {
    const words = find.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const is = row.dataset.outcome;
      const fits = pick.value === "all" || pick.value === is || (pick.value === "changed" && is !== "same");
      row.hidden = !(fits && row.textContent.toLowerCase().includes(words));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${rows.length} items`;
  };
  pick.addEventListener("change", filter);
  find.addEventListener("input", filter);
  bar.append(pick, " ", find, " ", count);
  box.prepend(bar);
  const key = (row, column) => {
    const text = row.cells[column].textContent, number = parseFloat(text.replace("\u2212", "-").replace("+", ""));
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      rows.sort((a, b) => (down ? -1 : 1) * compare(key(a, column), key(b, column)));
      body.append(...rows);
    });
    head.replaceChildren(button);
  });
  filter();
}
