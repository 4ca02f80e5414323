// Ends sessions from the live page, and follows the links that open and order their list without
// leaving the page. The server decides who may: whoever may not gets no button, and a refusal here.
// Must not know how a session looks but for its row's data, nor how the page is refreshed.
"use strict";
{
  const main = document.getElementById("live");
  const ask = document.getElementById("ask");
  const done = document.getElementById("done");
  const yes = document.getElementById("ask-yes");
  const refresh = () => document.dispatchEvent(new Event("refresh"));
  const plural = (count, noun) => (count === 1 ? `1 ${noun}` : `${count} ${noun}s`);

  /* ---- The list ---- */

  main.addEventListener("click", (event) => {
    const view = event.target.closest("a[data-view]");
    if (!view || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    // `?` alone is the page without a question.
    history.replaceState(null, "", view.search ? view.href : location.pathname);
    refresh();
  });

  /* ---- The question, and what came of it ---- */

  let wanted = null;
  let fading = 0;

  main.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-end]");
    const row = button?.closest("[data-session]");
    if (!row) return;
    const { session, user, host, live } = row.dataset;
    const all = button.dataset.end === "all";
    wanted = { session, user, all };
    document.getElementById("ask-whose").textContent = all ? "all sessions" : "the session";
    document.getElementById("ask-user").textContent = user;
    document.getElementById("ask-more").textContent = all
      ? "On every host, with all requests, streams and WebSockets that they carry, at once."
      : `At ${host}, with ${live === "0" ? "all that it carries" : plural(Number(live), "live connection")}, at once.`;
    done.textContent = "";
    ask.showModal();
    document.getElementById("ask-no").focus();
  });

  document.getElementById("ask-no").addEventListener("click", () => ask.close());
  yes.addEventListener("click", () => {
    ask.close();
    if (wanted) end(wanted);
  });

  function end({ session, user, all }) {
    const address = `api/v1/sessions/${encodeURIComponent(session)}${all ? "?all_of_user=true" : ""}`;
    fetch(address, { method: "DELETE", signal: AbortSignal.timeout(10000) })
      .then(async (answer) => {
        const told = await answer.json().catch(() => ({}));
        if (answer.ok) return `Ended: ${plural(told.ended, "session")} of ${user}.`;
        if (answer.status === 404) return `The session of ${user} had ended already.`;
        return `Not ended: ${told.error ?? `the server answered ${answer.status}`}.`;
      })
      .catch(() => "Not ended, or not known to be: the server gave no answer.")
      .then((sentence) => {
        done.textContent = sentence;
        clearTimeout(fading);
        fading = setTimeout(() => { done.textContent = ""; }, 15000);
        // The button that was pressed goes with its row: whoever uses keys goes on from the list.
        document.getElementById("sessions-name")?.focus();
        refresh();
      });
  }
}
