package reupload

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/types"
)

// A nameTest says what a name becomes: the name itself, or a part of the error.
type nameTest struct {
	given        types.JID
	chat, person string // a JID, or "!" and a part of the error
}

func TestCanonicalNames(t *testing.T) {
	t.Parallel()
	on := func(user, server string) types.JID { return types.JID{User: user, Server: server} }
	device := func(user, server string) types.JID {
		return types.JID{User: user, Server: server, RawAgent: 1, Device: 99}
	}
	for _, test := range []nameTest{
		{on("15550002", "s.whatsapp.net"), "15550002@s.whatsapp.net", "15550002@s.whatsapp.net"},
		{on("15550002", "c.us"), "15550002@s.whatsapp.net", "15550002@s.whatsapp.net"},
		{on("15550002", "hosted"), "15550002@s.whatsapp.net", "15550002@s.whatsapp.net"},
		{on("99990002", "lid"), "99990002@lid", "99990002@lid"},
		{on("99990002", "hosted.lid"), "99990002@lid", "99990002@lid"},
		{device("15550002", "s.whatsapp.net"), "15550002@s.whatsapp.net", "15550002@s.whatsapp.net"},
		{device("15550002", "hosted"), "15550002@s.whatsapp.net", "15550002@s.whatsapp.net"},
		{device("99990002", "hosted.lid"), "99990002@lid", "99990002@lid"},
		{on("867051314767696", "bot"), "867051314767696@bot", "867051314767696@bot"},
		{on("100001", "msgr"), "100001@msgr", "100001@msgr"},
		{types.JID{User: "12345", Integrator: 3, Device: 2, Server: "interop"}, "12345@interop 3", "12345@interop 3"},
		{on("3-12345:2", "interop"), "3-12345@interop", "3-12345@interop"},
		{types.JID{User: "1", Integrator: 3, Server: "lid"}, "1@lid", "1@lid"},

		{on("120363040237990503", "g.us"), "120363040237990503@g.us", "!is a chat"},
		{device("120363040237990503", "g.us"), "120363040237990503@g.us", "!is a chat"},
		{on("15550002-1600000000", "g.us"), "15550002-1600000000@g.us", "!is a chat"},
		{on("status", "broadcast"), "status@broadcast", "!is a chat"},
		{on("1599999999", "broadcast"), "1599999999@broadcast", "!is a chat"},
		{on("120363000000000000", "newsletter"), "!newsletter", "!is a chat"},
		{on("", "newsletter"), "!newsletter", "!names no person"},

		// What databases make of it.
		{on("15550002", ""), "!has no server", "15550002"},
		{on("", "15550002"), "!does not name a chat", "15550002"}, // types.ParseJID of a number
		{on("+15550002", "s.whatsapp.net"), "15550002@s.whatsapp.net", "15550002@s.whatsapp.net"},
		{on("+1 555 0002", ""), "!has no server", "15550002"},
		{on(" 15550002\n", "lid"), "15550002@lid", "15550002@lid"},
		{on("15550002:3", ""), "!has no server", "15550002"},
		{on("15550002.0:3", "s.whatsapp.net"), "15550002@s.whatsapp.net", "15550002@s.whatsapp.net"},
		{on("15550002.1", "s.whatsapp.net"), "15550002@s.whatsapp.net", "15550002@s.whatsapp.net"},
		{on("99990002@lid", ""), "99990002@lid", "99990002@lid"},
		{on("99990002@lid", "lid"), "99990002@lid", "99990002@lid"},
		{on("99990002@lid", "s.whatsapp.net"), "99990002@lid", "99990002@lid"},
		{on("99990002:7@hosted.lid", "s.whatsapp.net"), "99990002@lid", "99990002@lid"},
		{on("120363040237990503@g.us", ""), "120363040237990503@g.us", "!is a chat"},
		{on("120363040237990503@g.us", "s.whatsapp.net"), "120363040237990503@g.us", "!is a chat"},
		{on("120363040237990503", ""), "!has no server", "!is a chat"},
		{on("120363040237990503 ", ""), "!has no server", "!is a chat"},
		{on("+120363040237990503:2", ""), "!has no server", "!is a chat"},
		{on("15550002-1600000000", ""), "!has no server", "!is a chat"},
		{on("1@newsletter", "s.whatsapp.net"), "!newsletter", "!is a chat"},

		// Names of no person.
		{types.JID{}, "!does not name a chat", "!names no person"},
		{types.JID{Device: 3}, "!does not name a chat", "!names no person"},
		{types.ServerJID, "!does not name a chat", "!names no person"},
		{types.GroupServerJID, "!does not name a chat", "!names no person"},
		{on("15550002", "example.org"), "!unknown server", "!unknown server"},
		{on("15550002", "S.WHATSAPP.NET"), "!unknown server", "!unknown server"},
		{on("15550002", "lid@lid"), "!unknown server", "!unknown server"},
		{on("99990002@lid@lid", "lid"), "!unknown server", "!unknown server"},
		{on("15550002@", ""), "!has no server", "15550002"},
		{on("@lid", ""), "!does not name a chat", "!names no person"},
		{on("bob", "s.whatsapp.net"), "!no chat on its server", "!not a phone number"},
		{on("bob", ""), "!has no server", "!not a phone number"},
		{on("1555x", "lid"), "!no chat on its server", "!not a phone number"},
		{on("١٢٣", "lid"), "!no chat on its server", "!not a phone number"},
		{on("15550002-1", "lid"), "!no chat on its server", "!not a phone number"},
		{on("15550002_1", "lid"), "!no chat on its server", "!not a phone number"},
		{on("15550002:", "lid"), "!no chat on its server", "!not a phone number"},
		{on("15550002:x", "lid"), "!no chat on its server", "!not a phone number"},
		{on("15550002.", "lid"), "!no chat on its server", "!not a phone number"},
		{on("1555+0002", "lid"), "!no chat on its server", "!not a phone number"},
		{on("++1", "lid"), "!no chat on its server", "!not a phone number"},
		{on("+", "lid"), "!no chat on its server", "!not a phone number"},
		{on("status", "s.whatsapp.net"), "!no chat on its server", "!not a phone number"},
		{on("statuses", "broadcast"), "!no chat on its server", "!is a chat"},
		{on("-1", "g.us"), "!no chat on its server", "!is a chat"},
		{on("1-", "g.us"), "!no chat on its server", "!is a chat"},
		{on("1-2-3", "g.us"), "!no chat on its server", "!is a chat"},
		{on("+1", "g.us"), "!no chat on its server", "!is a chat"},
		{on("1:2", "g.us"), "!no chat on its server", "!is a chat"},
		{on("1-x", "interop"), "!no chat on its server", "!not a phone number"},

		{on(strings.Repeat("1", maxJID-3), "lid"), strings.Repeat("1", maxJID-3) + "@lid", strings.Repeat("1", maxJID-3) + "@lid"},
		{on(strings.Repeat("1", maxJID-2), "lid"), "!129 bytes", "!129 bytes"},
		{on("1", strings.Repeat("x", maxJID)), "!129 bytes", "!129 bytes"},
	} {
		chat, err := canonicalChat(test.given)
		test.compare(t, "chat", chat, err, test.chat)
		person, err := canonicalPerson(test.given)
		test.compare(t, "person", person, err, test.person)
	}
}

func (n nameTest) compare(t *testing.T, as string, got types.JID, err error, want string) {
	t.Helper()
	part, fails := strings.CutPrefix(want, "!")
	name := got.User
	if got.Server != "" {
		name = got.String()
	}
	if got.Integrator != 0 {
		name += fmt.Sprint(" ", got.Integrator)
	}
	switch {
	case fails && got != types.EmptyJID:
		t.Errorf("%+v as a %s: %v comes with an error", n.given, as, got)
	case fails && part == "newsletter":
		if err != ErrNewsletter {
			t.Errorf("%+v as a %s: %v, want ErrNewsletter", n.given, as, err)
		}
	case fails && (!errors.Is(err, ErrInvalidRequest) || !strings.Contains(err.Error(), part)):
		t.Errorf("%+v as a %s: %v, want %q", n.given, as, err, part)
	case !fails && (err != nil || name != want || got.Device != 0 || got.RawAgent != 0):
		t.Errorf("%+v as a %s: %+v, %v; want %s", n.given, as, got, err, want)
	}
}

// A name that is refused is quoted, but not at any length.
func TestErrorsAboutNamesAreShort(t *testing.T) {
	t.Parallel()
	for _, size := range []int{maxJID, 1 << 20} {
		for _, jid := range []types.JID{
			{User: strings.Repeat("x", size), Server: types.HiddenUserServer},
			{User: strings.Repeat("x", size-1), Device: 65535, RawAgent: 255, Server: "y"},
			{User: "1", Server: strings.Repeat("y", size)},
		} {
			_, chatErr := canonicalChat(jid)
			_, personErr := canonicalPerson(jid)
			for _, err := range []error{chatErr, personErr} {
				if err == nil || strings.Count(err.Error(), "x")+strings.Count(err.Error(), "y") > maxJID+20 {
					t.Errorf("%d bytes: the error is %v", size, err)
				}
			}
		}
	}
}

// Names are quoted wherever they are printed, so that a sender cannot write lines into a log.
func TestNamesWriteNoLines(t *testing.T) {
	t.Parallel()
	const forged = "1\n12:00:00 ERROR forged\r\x1b[2J"
	for _, jid := range []types.JID{{User: forged, Server: "x"}, {User: "1", Server: forged}} {
		_, chatErr := canonicalChat(jid)
		_, personErr := canonicalPerson(jid)
		r := Request{MessageID: forged, Chat: jid, Participant: jid}
		for _, value := range []any{chatErr, personErr, r, &r, Entry{Request: r}, r.LogValue()} {
			if text := fmt.Sprint(value); strings.ContainsAny(text, "\n\r\x1b") || !strings.Contains(text, "forged") {
				t.Errorf("a %T prints %q", value, text)
			}
		}
	}
}

func TestRequestsAreNormalized(t *testing.T) {
	t.Parallel()
	group, list := types.NewJID("120363040237990503", types.GroupServer), types.NewJID("1599999999", types.BroadcastServer)
	bob := types.NewJID("15550002", types.DefaultUserServer)
	for _, test := range []struct {
		chat, participant types.JID
		fromMe            bool
		want              string // the chat and the participant, or "!" and a part of the error
	}{
		{chat: types.JID{User: "15550002", Device: 2, Server: types.HostedServer}, want: "15550002@s.whatsapp.net "},
		{chat: bob, participant: group, want: "15550002@s.whatsapp.net "}, // which is not sent
		{chat: group, participant: types.JID{User: "99990002", Device: 99, Server: types.HostedLIDServer}, want: "120363040237990503@g.us 99990002@lid"},
		{chat: group, participant: types.JID{Server: "99990002"}, want: "120363040237990503@g.us 99990002"},
		{chat: group, fromMe: true, want: "120363040237990503@g.us "},
		{chat: group, participant: types.ServerJID, fromMe: true, want: "120363040237990503@g.us "},
		{chat: types.StatusBroadcastJID, participant: bob, want: "status@broadcast 15550002@s.whatsapp.net"},
		{chat: list, participant: bob, want: "1599999999@broadcast 15550002@s.whatsapp.net"},
		{chat: list, participant: types.NewJID(list.User, types.HiddenUserServer), want: "1599999999@broadcast 1599999999@lid"},

		{chat: group, want: "!Participant is empty"},
		{chat: group, participant: types.ServerJID, want: "!Participant is empty"},
		{chat: group, participant: group, want: "!is a chat"},
		{chat: group, participant: group, fromMe: true, want: "!is a chat"},
		{chat: group, participant: types.JID{User: group.User}, want: "!is a chat"},
		{chat: group, participant: types.NewJID(group.User, types.DefaultUserServer), want: "!is the chat itself"},
		{chat: types.NewJID("123", types.GroupServer), participant: types.JID{User: "123"}, want: "!is the chat itself"},
		{chat: list, participant: types.JID{User: list.User}, want: "!is the chat itself"},
		{chat: types.NewJID("1", types.NewsletterServer), want: "!newsletter"},
	} {
		req, err := Request{MessageID: "id", Chat: test.chat, Participant: test.participant, IsFromMe: test.fromMe, MediaKey: make([]byte, mediaKeySize)}.normalize()
		got := req.Chat.String() + " " + req.Participant.User
		if req.Participant.Server != "" {
			got = req.Chat.String() + " " + req.Participant.String()
		}
		switch part, fails := strings.CutPrefix(test.want, "!"); {
		case fails && (err == nil || !strings.Contains(err.Error(), part)):
			t.Errorf("%v of %+v: %v, want %q", test.chat, test.participant, err, part)
		case !fails && (err != nil || got != test.want):
			t.Errorf("%v of %+v: %q, %v; want %q", test.chat, test.participant, got, err, test.want)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{"15550002|s.whatsapp.net", "99990002:7@lid|lid", "+1 555|", "|15550002", "120363040237990503|g.us", "1-2|interop", "status|broadcast", "x|newsletter", "@|@"} {
		user, server, _ := strings.Cut(seed, "|")
		f.Add(user, server, uint8(1), uint16(2))
	}
	known := map[string]bool{"s.whatsapp.net": true, "lid": true, "bot": true, "msgr": true, "interop": true}
	f.Fuzz(func(t *testing.T, user, server string, agent uint8, device uint16) {
		given := types.JID{User: user, Server: server, RawAgent: agent, Device: device, Integrator: uint16(agent)}
		for _, as := range []struct {
			what      string
			canonical func(types.JID) (types.JID, error)
			also      string // servers
		}{{"chat", canonicalChat, " g.us broadcast "}, {"person", canonicalPerson, "  "}} {
			name, err := as.canonical(given)
			if err != nil {
				if name != types.EmptyJID || err != ErrNewsletter && !errors.Is(err, ErrInvalidRequest) || len(err.Error()) > 5*maxJID+200 {
					t.Errorf("%+v as a %s: %v, %v", given, as.what, name, err)
				}
				continue
			}
			if again, err := as.canonical(name); err != nil || again != name {
				t.Errorf("%+v as a %s: %v is not canonical: %v, %v", given, as.what, name, again, err)
			}
			if !known[name.Server] && !strings.Contains(as.also, " "+name.Server+" ") || name.User == "" || sizeOf(name) > maxJID || name.Device+uint16(name.RawAgent) > 0 {
				t.Errorf("%+v as a %s: %+v", given, as.what, name)
			}
			if parsed, err := types.ParseJID(name.String()); name.Server != "" && (err != nil || parsed.User != name.User || parsed.Server != name.Server) {
				t.Errorf("%+v as a %s: %v is parsed as %v, %v", given, as.what, name, parsed, err)
			}
		}
	})
}
