package sqlindex

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// formatJID writes a JID so that parseJID returns the very same one, whatever is in it. For most it
// is what their String returns. JID.String itself does not do: it leaves the integrator out, and
// others can put any characters into a JID.
func formatJID(jid types.JID) string {
	if jid == types.EmptyJID {
		return ""
	}
	text := url.QueryEscape(jid.User) + "@" + url.QueryEscape(jid.Server)
	if jid.RawAgent != 0 || jid.Device != 0 || jid.Integrator != 0 {
		text += fmt.Sprintf("@%d.%d.%d", jid.RawAgent, jid.Device, jid.Integrator)
	}
	return text
}

var errInvalidJID = errors.New("invalid JID")

func parseJID(text string) (jid types.JID, err error) {
	if text == "" {
		return types.EmptyJID, nil
	}
	parts := strings.Split(text, "@")
	if len(parts) != 2 && len(parts) != 3 {
		return types.EmptyJID, errInvalidJID
	}
	if jid.User, err = url.QueryUnescape(parts[0]); err != nil {
		return types.EmptyJID, errInvalidJID
	}
	if jid.Server, err = url.QueryUnescape(parts[1]); err != nil {
		return types.EmptyJID, errInvalidJID
	}
	if len(parts) == 3 {
		numbers := strings.Split(parts[2], ".")
		if len(numbers) != 3 {
			return types.EmptyJID, errInvalidJID
		}
		agent, err1 := strconv.ParseUint(numbers[0], 10, 8)
		device, err2 := strconv.ParseUint(numbers[1], 10, 16)
		integrator, err3 := strconv.ParseUint(numbers[2], 10, 16)
		if errors.Join(err1, err2, err3) != nil {
			return types.EmptyJID, errInvalidJID
		}
		jid.RawAgent, jid.Device, jid.Integrator = uint8(agent), uint16(device), uint16(integrator)
	}
	return jid, nil
}
