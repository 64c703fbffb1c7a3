package reupload

import (
	"fmt"
	"strings"
	"unicode"

	"go.mau.fi/whatsmeow/types"
)

// maxJID is how long user and server of a JID are together, at most. Real ones have some 30 bytes.
const maxJID = 128

// This file makes the one form in which a JID is compared, stored and sent. JIDs come from the
// wire, from other people's messages and from the bots' own databases, and each of these writes
// them in several ways: with a device, as "+1 555 0002", on the server that WhatsApp Web's store
// uses (@c.us), on the one where a business's second device runs (@hosted). A phone stays silent
// when a request has any of these.
//
//	server                      | canonical      | user part             | chat          | person
//	----------------------------+----------------+-----------------------+---------------+-------
//	s.whatsapp.net, c.us, hosted| s.whatsapp.net | digits                | yes           | yes
//	lid, hosted.lid             | lid            | digits                | yes           | yes
//	bot, msgr                   | as it is       | digits                | yes           | yes
//	interop                     | as it is       | digits, digits-digits | yes           | yes
//	g.us                        | as it is       | digits, digits-digits | yes           | no
//	broadcast                   | as it is       | digits, "status"      | yes           | no
//	newsletter                  |                |                       | ErrNewsletter | no
//	none                        | as it is       | digits                | no            | yes
//	any other                   |                |                       | no            | no

// canonicalChat returns the canonical form of a chat. The error is ErrNewsletter or wraps
// ErrInvalidRequest, and says what is wrong and what to do.
func canonicalChat(jid types.JID) (types.JID, error) {
	if sizeOf(jid) > maxJID {
		return types.EmptyJID, fmt.Errorf("%w: Chat has %d bytes, more than %d", ErrInvalidRequest, sizeOf(jid), maxJID)
	}
	given := jid
	jid = unpacked(jid)
	switch server, known := canonicalServer(jid.Server); {
	case server == types.NewsletterServer:
		return types.EmptyJID, ErrNewsletter
	case jid.User == "":
		return types.EmptyJID, fmt.Errorf("%w: Chat %s does not name a chat: it has to be a whole JID, as types.ParseJID returns it",
			ErrInvalidRequest, quoted(given))
	case server == "":
		return types.EmptyJID, fmt.Errorf("%w: Chat %s has no server: complete it, with @%s for a phone number, @%s for a LID or @%s for a group",
			ErrInvalidRequest, quoted(given), types.DefaultUserServer, types.HiddenUserServer, types.GroupServer)
	case !known:
		return types.EmptyJID, fmt.Errorf("%w: Chat %s is on an unknown server: only the chats of WhatsApp can be asked for",
			ErrInvalidRequest, quoted(given))
	default:
		user, ok := canonicalUser(jid.User, server)
		if !ok {
			return types.EmptyJID, fmt.Errorf("%w: Chat %s has a user part that no chat on its server has: check how it was stored",
				ErrInvalidRequest, quoted(given))
		}
		return nameOn(server, user, jid), nil
	}
}

// canonicalPerson returns the canonical form of a person, who may lack a server. The error wraps
// ErrInvalidRequest, and says what is wrong and what to do.
func canonicalPerson(jid types.JID) (types.JID, error) {
	if sizeOf(jid) > maxJID {
		return types.EmptyJID, fmt.Errorf("%w: Participant has %d bytes, more than %d", ErrInvalidRequest, sizeOf(jid), maxJID)
	}
	given := jid
	jid = unpacked(jid)
	if jid.User == "" && isDigits(jid.Server) { // what types.ParseJID makes of a number without a server
		jid = types.JID{User: jid.Server}
	}
	server, known := canonicalServer(jid.Server)
	user, ok := canonicalUser(jid.User, server)
	switch {
	case jid.User == "":
		return types.EmptyJID, fmt.Errorf("%w: Participant %s names no person: it has to be the sender of the message", ErrInvalidRequest, quoted(given))
	case server == types.GroupServer, server == types.BroadcastServer, server == types.NewsletterServer, server == "" && (isGroupNumber(jid.User) || isGroupNumber(user)):
		return types.EmptyJID, fmt.Errorf("%w: Participant %s is a chat: it has to be the person that sent the message", ErrInvalidRequest, quoted(given))
	case !known && server != "":
		return types.EmptyJID, fmt.Errorf("%w: Participant %s is on an unknown server: it has to be a phone number (@%s), a LID (@%s), or either without a server",
			ErrInvalidRequest, quoted(given), types.DefaultUserServer, types.HiddenUserServer)
	case !ok:
		return types.EmptyJID, fmt.Errorf("%w: Participant %s is not a phone number or LID: the part before @ has to be digits",
			ErrInvalidRequest, quoted(given))
	}
	return nameOn(server, user, jid), nil
}

// parseName returns the canonical form of a JID that is a text.
func parseName(text string, canonical func(types.JID) (types.JID, error)) (types.JID, error) {
	jid, err := types.ParseJID(text)
	if err != nil || strings.Count(text, "@") > 1 { // of which types.ParseJID leaves out the rest
		return types.EmptyJID, fmt.Errorf("%w: %q is no JID", ErrInvalidRequest, text[:min(len(text), maxJID)])
	}
	return canonical(jid)
}

// nameOn returns a JID without its agent and device. A user of interop is named by his network too.
func nameOn(server, user string, jid types.JID) types.JID {
	name := types.JID{User: user, Server: server}
	if server == types.InteropServer {
		name.Integrator = jid.Integrator
	}
	return name
}

// unpacked returns the JID that is written in the user part of another one, as in databases that
// keep a whole JID in a column for users.
func unpacked(jid types.JID) types.JID {
	if user, server, whole := strings.Cut(jid.User, "@"); whole {
		jid.User, jid.Server = user, server
	}
	return jid
}

// canonicalServer returns the server that identifies a person or chat, in place of one that says
// which program stored the JID or where a device runs, and reports whether it is one of WhatsApp's.
func canonicalServer(server string) (canonical string, known bool) {
	switch server {
	case types.LegacyUserServer, types.HostedServer:
		return types.DefaultUserServer, true
	case types.HostedLIDServer:
		return types.HiddenUserServer, true
	case types.DefaultUserServer, types.HiddenUserServer, types.GroupServer, types.BroadcastServer,
		types.NewsletterServer, types.BotServer, types.InteropServer, types.MessengerServer:
		return server, true
	}
	return server, false
}

// canonicalUser returns the user part of a JID on a canonical server, or on none, and reports
// whether there can be such a one.
func canonicalUser(user, server string) (canonical string, ok bool) {
	switch server {
	case types.BroadcastServer:
		return user, user == types.StatusBroadcastJID.User || isDigits(user)
	case types.GroupServer:
		return user, isDigits(user) || isPair(user)
	case types.InteropServer:
		if user, ok = withoutDevice(user); ok && isPair(user) {
			return user, true
		}
	}
	if user, ok = withoutDevice(user); !ok {
		return "", false
	}
	if !isDigits(user) { // a number for people to read
		user = strings.TrimPrefix(strings.Map(dropSpace, user), "+")
	}
	return user, isDigits(user)
}

// withoutDevice takes the device and the agent from a user part, "1.0:2". It is not ok if what
// follows the user is neither.
func withoutDevice(user string) (rest string, ok bool) {
	user, device, hasDevice := strings.Cut(user, ":")
	user, agent, hasAgent := strings.Cut(user, ".")
	return user, (!hasDevice || isDigits(device)) && (!hasAgent || isDigits(agent))
}

func dropSpace(r rune) rune {
	if unicode.IsSpace(r) {
		return -1
	}
	return r
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isPair reports whether a user part is two numbers: the creator of an old group and the time, or
// the network of a user of interop and the user.
func isPair(user string) bool {
	first, second, ok := strings.Cut(user, "-")
	return ok && isDigits(first) && isDigits(second)
}

// isGroupNumber reports whether a number without a server is a group's, as in databases that name
// the group where the sender is missing. Phone numbers and LIDs have 15 digits at the most.
func isGroupNumber(user string) bool {
	return isPair(user) || len(user) == 18 && strings.HasPrefix(user, "1203") && isDigits(user)
}

// quoted quotes a JID for an error, not longer than a JID can be.
func quoted(jid types.JID) string {
	text := jid.String()
	return fmt.Sprintf("%q", text[:min(len(text), maxJID)])
}

func sizeOf(jid types.JID) int { return len(jid.User) + len(jid.Server) }
