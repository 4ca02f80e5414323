// Takes the table anew once a second, and says when nobody answers any more.
const rows = document.getElementById("rows");
const lost = document.getElementById("lost");
async function turn() {
  try {
    const answer = await fetch("/rows", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const text = await answer.text();
    if (text !== turn.last) rows.innerHTML = turn.last = text;
    lost.hidden = true;
  } catch {
    lost.hidden = false;
  }
  setTimeout(turn, 1000);
}
turn();
