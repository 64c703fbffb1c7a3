package host

import (
	"net/http"
	"reflect"

	"go.mau.fi/whatsmeow"
)

// A mediaGetter is a whatsmeow client that shows its media client: see docs/upstream.md.
type mediaGetter interface{ MediaHTTPClient() *http.Client }

// MediaClient returns the HTTP client that downloads and uploads go through, or nil if whatsmeow
// has none or hides it. It is set with the client's own SetMediaHTTPClient.
func MediaClient(client *whatsmeow.Client) *http.Client {
	if media, ok := any(client).(mediaGetter); ok {
		return media.MediaHTTPClient()
	}
	field := fieldOf[*http.Client](client, "mediaHTTP")
	if field == nil {
		return nil
	}
	return *field
}

// A Lookout sees whether a bot exchanges its media client, or that client's transport, which
// nothing tells and no lock guards. It reads the words of both, compares them and never follows
// them: the bot may be writing them. A change is certain when two looks have seen the same, or when
// the bot itself makes the call in which it is seen.
type Lookout struct {
	pointer   *[1]uintptr // nil if whatsmeow hides it,
	getter    mediaGetter // unless it shows the client; nil if not
	transport *[2]uintptr
}

// A Sighting is how the media client looked. Two are equal if nothing has changed in between.
type Sighting [3]uintptr

// Watch returns a lookout for a client that has just been given a media client.
func Watch(client *whatsmeow.Client, media *http.Client) (l Lookout) {
	if field := fieldOf[*http.Client](client, "mediaHTTP"); field != nil {
		l.pointer = wordsOf[[1]uintptr](field)
	} else {
		l.getter, _ = any(client).(mediaGetter)
	}
	l.transport = wordsOf[[2]uintptr](&media.Transport)
	return l
}

// Look returns what there is to see now: the pointer to the media client, and the two words of the
// transport of the one that is watched. It costs next to nothing.
//
// It is not for the race detector, which does not know that the words are never followed.
//
//go:norace
func (l Lookout) Look() (s Sighting) {
	if l.pointer != nil {
		s[0] = l.pointer[0]
	} else if l.getter != nil {
		s[0] = reflect.ValueOf(l.getter.MediaHTTPClient()).Pointer()
	}
	s[1], s[2] = l.transport[0], l.transport[1]
	return s
}
