package host

import (
	"net/http"
	"testing"
)

// A showing client is one of a whatsmeow that has docs/upstream.md's getter.
type showing struct{ media *http.Client }

func (s *showing) MediaHTTPClient() *http.Client { return s.media }

func TestLookoutByTheGetter(t *testing.T) {
	t.Parallel()
	client, media := new(showing), new(http.Client)
	client.media = media
	lookout := Lookout{getter: client, transport: wordsOf[[2]uintptr](&media.Transport)}
	before := lookout.Look()
	client.media = new(http.Client)
	if lookout.Look() == before {
		t.Error("another client is not seen")
	}
	client.media = media
	if lookout.Look() != before {
		t.Error("the same client is seen as another")
	}
}
