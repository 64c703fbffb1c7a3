package reupload

import (
	"context"
	"net/http"
)

// A pointer travels in the context of a download whose caller wants to know where the file is, and
// not the file. whatsmeow makes such a download as any other, with its hosts, headers and repeats.
// It gets a 410 when the path is known, which it returns at once.
type pointer struct {
	path string // where the file is; empty while that is not known
}

type pointerKey struct{}

func withPointer(ctx context.Context, p *pointer) context.Context {
	return context.WithValue(ctx, pointerKey{}, p)
}

// pointerOf returns the pointer of a download, or nil if the caller wants the file.
func pointerOf(ctx context.Context) *pointer {
	p, _ := ctx.Value(pointerKey{}).(*pointer)
	return p
}

// to notes where the file is, and returns the response with which the download ends.
func (p *pointer) to(path string, req *http.Request) *http.Response {
	p.path = path
	return noLonger(req)
}

// noLonger returns the response of a CDN that does not have the file any more.
func noLonger(req *http.Request) *http.Response {
	return &http.Response{
		Status: "410 Gone", StatusCode: http.StatusGone, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: req,
	}
}

// firstByteOf returns a copy of a request that asks for the first byte of a file.
func firstByteOf(req *http.Request) *http.Request {
	req = req.Clone(req.Context())
	req.Header.Set("Range", "bytes=0-0")
	return req
}

func asksFirstByte(req *http.Request) bool { return req.Header.Get("Range") != "" }

// isThere reports whether a response has the file, or the first byte of it if that is all that a
// request asks for.
func isThere(req *http.Request, resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent && asksFirstByte(req)
}

// isEmpty reports whether a response says that the file has not even a first byte.
func isEmpty(req *http.Request, resp *http.Response) bool {
	return resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && asksFirstByte(req)
}
