package reupload

import (
	"context"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// FreshPath returns a direct path of the media of a message that works now, for bots that send old
// media again by reference, in a message of their own with the same keys and hashes. It is the one
// that the media has if the CDN still has the file there, which takes one request and no download;
// otherwise one that is known already; otherwise the one that the phone tells when it has uploaded
// the file again. Downloads of the file meanwhile share what is done for it.
//
// A path that another message has brought is compared with the hash of the file, which takes a
// download, because its sender can write anything there.
//
// It waits as long as a download of the file would, counts as one in Stats, and has the errors of
// one: see [Plugin.Download] and [Cause]. After Close the error is ErrClosed.
func (p *Plugin) FreshPath(ctx context.Context, info *types.MessageInfo, media whatsmeow.DownloadableMessage) (string, error) {
	if p.closed.Load() {
		return "", ErrClosed
	}
	p.media.notice(true)
	var point pointer
	whole := withPath(media)
	_, err := p.client.Download(withPointer(WithMessage(ctx, info, media), &point), whole)
	switch {
	case point.path != "":
		return point.path, nil
	case err == nil: // it is none of the media that our transport looks after
		return whole.GetDirectPath(), nil
	}
	return "", p.explain(media, err)
}
