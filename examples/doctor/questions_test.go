package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// TestQuestionsAndDecisions compares what is not known with what is asked.
func TestQuestionsAndDecisions(t *testing.T) {
	t.Parallel()
	decisions, err := os.ReadFile("../../docs/decisions.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(string(decisions), "\n## ") // without what the text before says of the mark
	var unknown []string
	for _, mark := range regexp.MustCompile(`\[U[^\]]*\]`).FindAllString(rows, -1) {
		name, ok := strings.CutPrefix(strings.TrimSuffix(mark, "]"), "[U: ")
		if !ok || !slices.ContainsFunc(questions, func(q question) bool { return q.name == name }) {
			t.Errorf("docs/decisions.md has %s, which names no question", mark)
		}
		unknown = append(unknown, name)
	}
	var names []string
	for _, q := range questions {
		if !slices.Contains(unknown, q.name) {
			t.Errorf("no decision depends on %s: docs/decisions.md has no [U: %s]", q.name, q.name)
		}
		if row := fmt.Sprintf("| `%s` | %s |\n", q.name, q.asks); !strings.Contains(string(readme), row) {
			t.Errorf("README.md does not have the row\n%s", row)
		}
		if slices.Contains(names, q.name) || q.how == "" {
			t.Errorf("%s is there twice, or does not say how it is answered", q.name)
		}
		names = append(names, q.name)
	}
	if _, table, _ := strings.Cut(string(readme), "\n## The questions\n"); strings.Count(table, "\n| `") != len(questions) {
		t.Error("README.md has other questions than questions.go")
	}
}

// TestAnswers has what the report makes of what was seen.
func TestAnswers(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	success := func(after time.Duration) []answer {
		return []answer{{At: at(after), Said: at(after), Result: "SUCCESS", Sealed: true, HasPath: true}}
	}
	number := wabox.Form{To: wabox.ByNumber, Chat: wabox.ByNumber}
	lid := wabox.Form{To: wabox.ByLID, Chat: wabox.ByLID}
	with := func(f *file) *state { return &state{Files: []*file{f}, Watched: at(100 * time.Hour)} }
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		question string
		state    *state
		want     string
	}{
		"silence by number, an answer by LID": {"address-form", with(&file{Kind: wabox.KindDirect, Tries: []*try{
			{Form: number, At: start, Ack: start}, {Form: lid, At: start, Ack: start, Answers: success(time.Second)},
		}}), "to the number: 0 of 1 recognised; to the LID: 1 of 1 recognised"},
		"a group": {"address-form", with(&file{Kind: wabox.KindGroup, Tries: []*try{
			{Form: wabox.Form{To: wabox.ByLID, Participant: wabox.ByLID}, Answers: []answer{{Result: "NOT_FOUND"}}},
			{Form: wabox.Form{To: wabox.ByNumber, Participant: wabox.ByLID}, Answers: success(0)},
		}}), "by LIDs in groups: 0 of 1 recognised; to the number with participant by LID: 1 of 1 recognised"},
		"times": {"answer-time", with(&file{Tries: []*try{
			{At: start, Ack: at(40 * time.Millisecond), Answers: success(1500 * time.Millisecond)},
			{At: start, Ack: at(60 * time.Millisecond)},
		}}), "ack after 60 ms (40 ms to 60 ms, 2 times), answer after 1.5 s"},
		"an answer that had waited is no time": {"answer-time", with(&file{Tries: []*try{{At: start, Ack: start, Answers: []answer{{At: at(day), Queued: true}}}}}), "ack after 0 ms, no answer"},
		"statuses": {"cdn-status", &state{Alive: 2, Files: []*file{
			{Old: []status{{Status: 410}}, New: []status{{Status: 404}, {Status: 200}}, SameFile: "yes"},
			{Old: []status{{Status: 403, SaysExpired: true}}},
		}}, "old paths: 1 x 403 (says expired), 1 x 410, 2 x 200, and not asked for; new paths: 1 x 404; of 1 compared 1 had the same file"},
		"queued": {"offline-queue", with(&file{Tries: []*try{{At: start, Answers: []answer{{At: at(5 * time.Hour), Said: at(2 * time.Hour), Queued: true}}}}}), "yes: 1 had waited, the longest for 3 h"},
		"none":   {"offline-queue", with(&file{Tries: []*try{{At: start, Answers: success(time.Second)}}}), notSeen},
		"kept": {"server-keeps", &state{Watched: at(100 * time.Hour), Files: []*file{{Tries: []*try{
			{At: start, Answers: success(72 * time.Hour)}, {At: start}, {At: start, Refused: 479},
		}}}}, "the phone has answered after 3 days; one has had no answer after 4 days"},
		"not kept for long": {"server-keeps", with(&file{Tries: []*try{{At: start, Answers: success(time.Second)}}}), notSeen},
		"a path": {"path-life", with(&file{ToldAt: start, New: []status{
			{At: start, Status: 404}, {At: at(time.Second), Status: 200}, {At: at(7 * day), Status: 200}, {At: at(21 * day), Status: 410}, {At: at(28 * day), Status: 410},
		}}), "good after 7 days, one 410 after 21 days"},
		"a path that lives":     {"path-life", with(&file{ToldAt: start, New: []status{{At: at(7 * day), Status: 200}}}), "good after 7 days"},
		"a path that dies":      {"path-life", with(&file{ToldAt: start, New: []status{{At: start, Status: 200}, {At: at(7 * day), Status: 404}}}), "404 after 7 days"},
		"a path of now":         {"path-life", with(&file{ToldAt: start, New: []status{{At: start, Status: 200}}}), notSeen},
		"a path that dies soon": {"path-life", with(&file{ToldAt: start, New: []status{{At: start, Status: 404}, {At: at(time.Second), Status: 200}, {At: at(time.Minute), Status: 410}}}), "410 after 1 min"},
		"a path that dies at once": {"path-life", &state{Files: []*file{
			{ToldAt: start, New: []status{{At: start, Status: 200}, {At: start, Status: 410}}}, {ToldAt: start, New: []status{{At: at(2 * time.Hour), Status: 404}}},
		}}, "410 after 0 ms"},
		"a path in trouble":   {"path-life", with(&file{ToldAt: start, New: []status{{At: start, Status: 200}, {At: at(day), Status: 503}, {At: at(2 * day), Status: 200}}}), "good after 2 days"},
		"a path that is late": {"path-life", with(&file{ToldAt: start, New: []status{{At: start, Status: 404}, {At: at(time.Second), Status: 404}}}), notSeen},
		"another file":        {"cdn-status", with(&file{New: []status{{Status: 200}}, SameFile: "no"}), "old paths: none; new paths: 1 x 200; of 1 compared 0 had the same file"},
		"a part":              {"history-part", with(&file{Kind: wabox.KindHistory, Tries: []*try{{At: start, Parts: []time.Time{at(90 * time.Second)}}}}), "1 of 1 have come, after 2 min"},
		"no part":             {"history-part", with(&file{Kind: wabox.KindHistory, Tries: []*try{{At: start, Ack: start}}}), "no: 1 asked for, silence"},
		"another key":         {"new-key", with(&file{Resent: "other-key"}), "the whole message, asked for again: 1 x came with another key"},
		"a list": {"broadcast-list", with(&file{Kind: wabox.KindList, Tries: []*try{
			{Form: wabox.Form{To: wabox.ByNumber, Participant: wabox.ByNumber}}, {Form: number, Answers: success(0)},
		}}), "by the list 0 of 1 recognised, by the direct chat 1 of 1"},
		"a status":  {"group-status", with(&file{Kind: wabox.KindGroupStatus, Tries: []*try{{Answers: []answer{{Result: "NOT_FOUND", Sealed: true}}}}}), "older than a day: 1 x NOT_FOUND"},
		"how many":  {"how-many", with(&file{Tries: []*try{{At: start, Ack: start}, {At: at(time.Minute)}, {At: at(2 * time.Hour), Ack: at(2 * time.Hour), Refused: 479}}}), "3 requests, at most 2 in an hour: 1 refused, 1 without an ack"},
		"a notice":  {"notification", &state{Shown: "yes", Platform: "iphone"}, "yes, on iphone"},
		"no notice": {"notification", &state{Platform: "iphone"}, notSeen},
	} {
		i := slices.IndexFunc(questions, func(q question) bool { return q.name == c.question })
		if got := questions[i].answerOf(c.state); got != c.want {
			t.Errorf("%s: the answer to %s is\n%q, want\n%q", name, c.question, got, c.want)
		}
	}
	for _, q := range questions {
		if got := q.answerOf(&state{}); got != notSeen {
			t.Errorf("without anything seen, %s is %q", q.name, got)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	mine := &debug.Module{Path: "../..", Version: "(devel)"}
	for want, info := range map[string]*debug.BuildInfo{
		"unknown unknown": nil,
		"v0.1.0 v0.2.0": {Deps: []*debug.Module{
			{Path: "example.com/other", Version: "v1.0.0"}, {Path: "github.com/whatsmeow-plugins/reupload", Version: "v0.1.0"}, {Path: "go.mau.fi/whatsmeow", Version: "v0.2.0"},
		}},
		"v0.1.0 (a checkout) v0.2.0 (replaced)": {Deps: []*debug.Module{
			{Path: "github.com/whatsmeow-plugins/reupload", Version: "v0.1.0", Replace: mine}, {Path: "go.mau.fi/whatsmeow", Version: "v0.2.0", Replace: mine},
		}},
		"v0.1.0 (a checkout, commit c95ace1c95ac, changed) unknown": {
			Deps:     []*debug.Module{{Path: "github.com/whatsmeow-plugins/reupload", Version: "v0.1.0", Replace: mine}},
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "c95ace1c95ace1c95ace1"}, {Key: "vcs.modified", Value: "true"}},
		},
	} {
		if made := versionsOf(info); made.Reupload+" "+made.Whatsmeow != want || made.Go == "" {
			t.Errorf("got %+v, want %s", made, want)
		}
	}
}

// One file of each kind comes first, then direct chats and groups in turn, then the rest.
func TestInTurn(t *testing.T) {
	t.Parallel()
	of := func(ids ...types.MessageID) (rows []row) {
		for _, id := range ids {
			rows = append(rows, row{id: id})
		}
		return rows
	}
	rows := inTurn(map[string][]row{
		wabox.KindDirect: of("d1", "d2"), wabox.KindGroup: of("g1", "g2", "g3", "g4"),
		wabox.KindHistory: of("h1", "h2"), wabox.KindList: of("l1"),
	})
	var got []types.MessageID
	for _, r := range rows {
		got = append(got, r.id)
	}
	if want := []types.MessageID{"d1", "g1", "h1", "l1", "d2", "g2", "g3", "g4", "h2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What has expired, and the phone is likely to have still, comes first; before it what could not be
// decrypted.
func TestRank(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		age        time.Duration
		unreadable bool
		want       int
	}{
		{time.Hour, false, 0}, {expiresAfter - time.Hour, false, 0}, {expiresAfter + time.Hour, false, 1},
		{phoneForgets - time.Hour, false, 1}, {phoneForgets + time.Hour, false, 0}, {time.Hour, true, 2}, {phoneForgets + time.Hour, true, 2},
	} {
		if got := (row{sent: time.Now().Add(-test.age), unreadable: test.unreadable}).rank(); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

// TestAccountInReport has the names that an account can go by.
func TestAccountInReport(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]*wabox.Record{
		"phone is android; no LID":                          {Platform: "android"},
		"phone is iphone; has a LID, goes by its number":    {Platform: "iphone", HasLID: true},
		"phone is iphone; has a LID, has gone over to LIDs": {Platform: "iphone", HasLID: true, Migrated: true},
		"phone is of a kind that it does not say; no LID":   {},
	} {
		var out strings.Builder
		(&doctor{out: &out, state: new(state)}).report(r)
		if got := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(got, " account "+want+" runs ") {
			t.Errorf("there is no %q in %s", want, got)
		}
	}
}

// TestConnectionThatEnds says what the person can do about it. The first reason is the one.
func TestConnectionThatEnds(t *testing.T) {
	t.Parallel()
	for want, evt := range map[string]any{
		"stop the bot":              &events.StreamReplaced{},
		"unlinked":                  &events.LoggedOut{},
		"for good: client outdated": &events.ClientOutdated{},
	} {
		a := &account{ended: make(chan error, 1)}
		a.watch(evt)
		a.watch(&events.LoggedOut{})
		select {
		case err := <-a.ended:
			if !strings.Contains(strings.ToLower(err.Error()), want) {
				t.Errorf("%T: %v", evt, err)
			}
		default:
			t.Errorf("%T does not end it", evt)
		}
	}
}
