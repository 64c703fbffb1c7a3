package wabox

import (
	"encoding/binary"
	"io"
	"net/http"
	"sync"
)

// A client that hangs up tells the server so and waits for its word, up to five seconds, and
// whatsmeow holds its lock of the socket meanwhile. On a connection in memory, which may be half
// open or stalled, that would stop the clock of a testing/synctest bubble for good. So there the
// server's word comes from here, at once.
type hastyTransport struct{ base http.RoundTripper }

func (t hastyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	if stream, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = &hastyStream{ReadWriteCloser: stream}
	}
	return resp, nil
}

// A hastyStream is the client's side of a websocket.
type hastyStream struct {
	io.ReadWriteCloser

	frame  []byte // the header of the frame that is being written, as far as it has come
	left   uint64 // of its payload
	code   []byte // the close frame's payload, masked, as far as it has come
	mask   []byte
	mu     sync.Mutex
	answer []byte // the server's close frame, once the client has hung up
}

// opClose is the first byte of a close frame (RFC 6455, 5.2).
const opClose = 0x88

func (s *hastyStream) Write(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Write(p)
	if s.watch(p[:n]) {
		s.mu.Lock()
		s.answer = append([]byte{opClose, byte(len(s.code))}, s.code...)
		s.mu.Unlock()
		_ = s.ReadWriteCloser.Close() // which wakes who reads
	}
	return n, err
}

func (s *hastyStream) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	if err == nil {
		return n, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answer) > 0 {
		n = copy(p, s.answer)
		s.answer = s.answer[n:]
		return n, nil
	}
	return n, err
}

// watch follows the frames that the client writes, and reports whether a close frame is complete.
func (s *hastyStream) watch(p []byte) (closed bool) {
	for len(p) > 0 {
		if s.left == 0 {
			s.frame = append(s.frame, p[0])
			p = p[1:]
			size, complete := payloadSize(s.frame)
			if !complete {
				continue
			}
			s.left, s.mask, s.code = size, s.frame[len(s.frame)-4:], nil
			closes := s.frame[0] == opClose
			s.frame = nil
			if size > 0 && closes {
				s.code = make([]byte, 0, size)
			}
			if size > 0 || !closes {
				continue
			}
			return true
		}
		n := min(s.left, uint64(len(p)))
		if s.code != nil {
			for _, b := range p[:n] {
				s.code = append(s.code, b^s.mask[len(s.code)%4])
			}
		}
		p, s.left = p[n:], s.left-n
		if s.left == 0 && s.code != nil {
			return true
		}
	}
	return false
}

// payloadSize returns the size of a frame's payload once the header of a client's frame, which is
// always masked, is complete.
func payloadSize(header []byte) (size uint64, complete bool) {
	if len(header) < 2 {
		return 0, false
	}
	const maskSize = 4
	switch short := header[1] & 0x7f; {
	case short == 126 && len(header) == 4+maskSize:
		return uint64(binary.BigEndian.Uint16(header[2:])), true
	case short == 127 && len(header) == 10+maskSize:
		return binary.BigEndian.Uint64(header[2:]), true
	case short < 126 && len(header) == 2+maskSize:
		return uint64(short), true
	}
	return 0, false
}
