package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A question is something that is not known of WhatsApp. docs/decisions.md has its name wherever a
// decision depends on it, as in [U: path-life].
type question struct {
	name string
	asks string
	how  string // what to do to have it answered
	// answer says what was seen, or "" if nothing was. It has no names in it, and is printable
	// ASCII.
	answer func(*state) string
}

// questions are in the order of the report.
var questions = []question{
	{"address-form", "Does the phone answer to the account's number, its LID, or both?",
		"run it with -files 4 or more", addressForm},
	{"answer-time", "How long do the server's ack and the phone's answer take?",
		"run it while the phone is on", answerTime},
	{"cdn-status", "What does the CDN say of old paths, and of new ones?",
		"run it on an account with files older than a month", cdnStatus},
	{"offline-queue", "Is an answer kept for a bot that is away, and how long?",
		"stop it while it waits for an answer, and run it again later", offlineQueue},
	{"server-keeps", "How long is a request kept for a phone that is off?",
		"run it with the phone off, and again when it has been on", serverKeeps},
	{"path-life", "How long does a path live that the phone has told?",
		"run it again after a day and after a week", pathLife},
	{"history-part", "Does an expired part of the history come again, and how fast?",
		"run it on an account that has got its history with reupload", historyPart},
	{"new-key", "After a DECRYPTION_ERROR, has the message another key when it is sent again?",
		"run it on an account whose bot has reported ErrDecryption", newKey},
	{"broadcast-list", "By which chat does a phone know a message from a broadcast list?",
		"run it on an account that gets such messages", broadcastList},
	{"group-status", "Is the status of a group gone after a day?",
		"run it on an account that gets such statuses", groupStatus},
	{"how-many", "How many requests does WhatsApp take without refusing one?",
		"run it again", howMany},
	{"notification", "Does the phone's owner see the requests?",
		"run it without -yes, and look at the phone", notification},
}

// notSeen is what is said of a question without an answer.
const notSeen = "not seen yet"

func (q question) answerOf(s *state) string {
	if text := q.answer(s); text != "" {
		return text
	}
	return notSeen
}

// tries goes through the requests for files of some kinds.
func (s *state) tries(kinds ...string) (all []*try) {
	for _, f := range s.Files {
		if len(kinds) == 0 || slices.Contains(kinds, f.Kind) {
			all = append(all, f.Tries...)
		}
	}
	return all
}

func count(of []*try, is func(*try) bool) (n int) {
	for _, t := range of {
		if is(t) {
			n++
		}
	}
	return n
}

func addressForm(s *state) string {
	var said []string
	asked := s.tries(wabox.KindDirect, wabox.KindGroup, wabox.KindHistory)
	for _, form := range []struct{ to, participant, text string }{
		{wabox.ByNumber, "", "to the number"}, {wabox.ByLID, "", "to the LID"},
		{wabox.ByNumber, wabox.ByNumber, "by numbers in groups"}, {wabox.ByLID, wabox.ByLID, "by LIDs in groups"},
	} {
		has := func(t *try) bool { return t.To == form.to && t.Participant == form.participant }
		if n := count(asked, has); n > 0 {
			said = append(said, fmt.Sprintf("%s: %d of %d recognised", form.text,
				count(asked, func(t *try) bool { return has(t) && t.isNamedRightly() }), n))
		}
	}
	for _, t := range asked { // where only one of the two names is known
		if t.Participant != "" && t.Participant != t.To {
			said = append(said, fmt.Sprintf("to the %s with participant by %s: %d of 1 recognised", names[t.To], names[t.Participant],
				count([]*try{t}, (*try).isNamedRightly)))
		}
	}
	return shorten(strings.Join(said, "; "))
}

// shorten keeps an answer within what a record takes.
func shorten(text string) string {
	const most = 380
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

func answerTime(s *state) string {
	var acks, answers []time.Duration
	for _, t := range s.tries() {
		if !t.Ack.IsZero() {
			acks = append(acks, t.Ack.Sub(t.At))
		}
		if len(t.Answers) > 0 && !t.Answers[0].Queued {
			answers = append(answers, t.Answers[0].At.Sub(t.At))
		}
	}
	if len(acks) == 0 {
		return ""
	}
	text := "ack after " + spread(acks)
	if len(answers) > 0 {
		text += ", answer after " + spread(answers)
	} else {
		text += ", no answer"
	}
	return text
}

// spread tells of several times the middle one, the first and the last.
func spread(times []time.Duration) string {
	slices.Sort(times)
	middle := span(times[len(times)/2])
	if len(times) == 1 {
		return middle
	}
	return fmt.Sprintf("%s (%s to %s, %d times)", middle, span(times[0]), span(times[len(times)-1]), len(times))
}

// span writes a time as people do.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

func cdnStatus(s *state) string {
	old, fresh := make(map[string]int), make(map[string]int)
	same, compared := 0, 0
	for _, f := range s.Files {
		if len(f.Old) > 0 {
			old[f.Old[len(f.Old)-1].text()]++
		}
		if len(f.New) > 0 {
			fresh[f.New[0].text()]++
		}
		if f.SameFile != "" {
			compared++
		}
		if f.SameFile == "yes" {
			same++
		}
	}
	if s.Alive > 0 {
		old["200, and not asked for"] = s.Alive
	}
	if len(old)+len(fresh) == 0 {
		return ""
	}
	text := "old paths: " + tally(old) + "; new paths: " + tally(fresh)
	if compared > 0 {
		text += fmt.Sprintf("; of %d compared %d had the same file", compared, same)
	}
	return shorten(text)
}

func (st status) text() string {
	if st.SaysExpired {
		return fmt.Sprintf("%d (says expired)", st.Status)
	}
	return fmt.Sprint(st.Status)
}

// isGone reports whether the CDN no longer has a file under a path, rather than trouble of its own.
func (st status) isGone() bool {
	return st.Status == http.StatusNotFound || st.Status == http.StatusGone || st.Status == http.StatusForbidden
}

// tally writes how often each text was there, such as "3 x 410, 1 x 404".
func tally(counts map[string]int) string {
	if len(counts) == 0 {
		return "none"
	}
	var texts []string
	for text, n := range counts {
		texts = append(texts, fmt.Sprintf("%d x %s", n, text))
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

func offlineQueue(s *state) string {
	n, longest := 0, time.Duration(0)
	for _, t := range s.tries() {
		for _, a := range t.Answers {
			if a.Queued {
				n++
				longest = max(longest, a.At.Sub(a.Said))
			}
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("yes: %d had waited, the longest for %s", n, span(longest))
}

// late is how long a phone takes that was off, and not just slow.
const late = 2 * time.Minute

func serverKeeps(s *state) string {
	longest, waiting := time.Duration(0), time.Duration(0)
	for _, t := range s.tries() {
		for _, a := range t.Answers {
			longest = max(longest, a.Said.Sub(t.At))
		}
		if !t.hasAnswer() && t.Refused == 0 {
			waiting = max(waiting, s.Watched.Sub(t.At))
		}
	}
	var said []string
	if longest > late {
		said = append(said, "the phone has answered after "+span(longest))
	}
	if waiting > late {
		said = append(said, "one has had no answer after "+span(waiting))
	}
	return strings.Join(said, "; ")
}

func pathLife(s *state) string {
	alive, dead := time.Duration(0), time.Duration(-1)
	deadStatus := 0
	for _, f := range s.Files {
		wasGood := false // before, the CDN can only be late
		for _, st := range f.New {
			age := st.At.Sub(f.ToldAt)
			switch {
			case st.Status == http.StatusOK:
				alive, wasGood = max(alive, age), true
			case st.isGone() && (wasGood || age > time.Hour) && (dead < 0 || age < dead):
				dead, deadStatus = age, st.Status
			}
		}
	}
	switch {
	case alive < time.Hour && dead < 0:
		return ""
	case dead < 0:
		return "good after " + span(alive)
	case alive < time.Hour:
		return fmt.Sprintf("%d after %s", deadStatus, span(dead))
	}
	return fmt.Sprintf("good after %s, one %d after %s", span(alive), deadStatus, span(dead))
}

func historyPart(s *state) string {
	asked := s.tries(wabox.KindHistory)
	var times []time.Duration
	for _, t := range asked {
		if len(t.Parts) > 0 {
			times = append(times, t.Parts[0].Sub(t.At))
		}
	}
	switch {
	case len(asked) == 0:
		return ""
	case len(times) == 0:
		return fmt.Sprintf("no: %d asked for, %s", len(asked), describe(asked[len(asked)-1]))
	}
	return fmt.Sprintf("%d of %d have come, after %s", len(times), len(asked), spread(times))
}

func newKey(s *state) string {
	counts := make(map[string]int)
	for _, f := range s.Files {
		if f.Resent != "" {
			counts[orNothing(f.Resent)]++
		}
	}
	if len(counts) == 0 {
		return ""
	}
	return "the whole message, asked for again: " + tally(counts)
}

func broadcastList(s *state) string {
	asked := s.tries(wabox.KindList)
	if len(asked) == 0 {
		return ""
	}
	inList := func(t *try) bool { return t.Chat == "" }
	direct := func(t *try) bool { return t.Chat != "" }
	right := func(is func(*try) bool) int {
		return count(asked, func(t *try) bool { return is(t) && t.isNamedRightly() })
	}
	return fmt.Sprintf("by the list %d of %d recognised, by the direct chat %d of %d",
		right(inList), count(asked, inList), right(direct), count(asked, direct))
}

func groupStatus(s *state) string {
	counts := make(map[string]int)
	for _, f := range s.Files {
		if f.Kind == wabox.KindGroupStatus && len(f.Tries) > 0 {
			counts[describe(f.Tries[len(f.Tries)-1])]++
		}
	}
	if len(counts) == 0 {
		return ""
	}
	return "older than a day: " + tally(counts)
}

func howMany(s *state) string {
	asked := s.tries()
	if len(asked) == 0 {
		return ""
	}
	most := 0
	for _, first := range asked {
		most = max(most, count(asked, func(t *try) bool { return !t.At.Before(first.At) && t.At.Sub(first.At) < time.Hour }))
	}
	return fmt.Sprintf("%s, at most %d in an hour: %d refused, %d without an ack", number(len(asked), "request"), most,
		count(asked, func(t *try) bool { return t.Refused > 0 }), count(asked, func(t *try) bool { return t.Ack.IsZero() }))
}

func notification(s *state) string {
	if s.Shown == "" {
		return ""
	}
	if s.Platform != "" {
		return s.Shown + ", on " + s.Platform
	}
	return s.Shown
}

// describe says in few words what became of a request.
func describe(t *try) string {
	switch {
	case t.Refused > 0:
		return fmt.Sprintf("refused with error %d", t.Refused)
	case len(t.Parts) > 0:
		return "came again"
	case len(t.Answers) > 0:
		a := t.Answers[len(t.Answers)-1]
		text := a.Result
		if !a.Sealed {
			text += " (not sealed)"
		}
		if a.HasPath && a.Result != wabox.Success.String() {
			text += " with a path"
		}
		return text
	case t.Ack.IsZero():
		return "no ack"
	}
	return "silence"
}
