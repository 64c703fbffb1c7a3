package reupload

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// Download downloads the media of a message, and is client.Download for callers that hold the
// message: it heals even if the index has never seen it, and if it has no direct path. Media that
// has a URL and no direct path is tried there first. The errors are whatsmeow's; see [Cause].
func (p *Plugin) Download(ctx context.Context, info *types.MessageInfo, media whatsmeow.DownloadableMessage) ([]byte, error) {
	p.media.notice(true)
	data, err := p.client.Download(WithMessage(ctx, info, media), withPath(media))
	return data, p.explain(media, err)
}

// DownloadToFile is Download into a file, which is written from its beginning. After an error
// the file is empty. The error can also be that of the file's Seek or Truncate, perhaps
// joined to whatsmeow's.
func (p *Plugin) DownloadToFile(ctx context.Context, info *types.MessageInfo, media whatsmeow.DownloadableMessage, file whatsmeow.File) error {
	if file == nil {
		return fmt.Errorf("%w: DownloadToFile needs a file", ErrInvalidRequest)
	}
	p.media.notice(true)
	// whatsmeow writes where the file stands, so the rest of an earlier try would stay in front
	// of the media.
	if err := rewind(file); err != nil {
		return err
	}
	err := p.explain(media, p.client.DownloadToFile(WithMessage(ctx, info, media), withPath(media), file))
	if err != nil {
		err = errors.Join(err, rewind(file))
	}
	return err
}

func rewind(file whatsmeow.File) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reupload: going to the beginning of the file: %w", err)
	}
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("reupload: emptying the file: %w", err)
	}
	return nil
}

// A pathless is media that came without a direct path. It gets the path in its URL, or a stand-in
// if it has no URL.
type pathless struct {
	whatsmeow.DownloadableMessage
	path string
}

func (m pathless) GetDirectPath() string { return m.path }

// GetMediaType implements [whatsmeow.MediaTypeable]: the type is that of the media inside.
func (m pathless) GetMediaType() whatsmeow.MediaType {
	return whatsmeow.GetMediaType(m.DownloadableMessage)
}

func lacksPath(media whatsmeow.DownloadableMessage) bool {
	return media != nil && media.GetDirectPath() == "" && pathInURL(media) == ""
}

// withPath gives media without a direct path the one in its URL, or a stand-in, so that the
// download gets as far as our transport.
func withPath(media whatsmeow.DownloadableMessage) whatsmeow.DownloadableMessage {
	switch {
	case media == nil || media.GetDirectPath() != "":
		return media
	case lacksPath(media):
		return pathless{media, standInPath}
	}
	return pathless{media, pathInURL(media)}
}

// explain gives the error of a download a cause where whatsmeow's has no place for one, and says
// that there was no path.
func (p *Plugin) explain(media whatsmeow.DownloadableMessage, err error) error {
	switch {
	case err == nil:
		return nil
	case p.closed.Load() && Cause(err) == nil:
		return &explained{err, ErrClosed}
	case lacksPath(media):
		return &explained{fmt.Errorf("%w (and %w)", whatsmeow.ErrNoURLPresent, err), Cause(err)}
	}
	return err
}
