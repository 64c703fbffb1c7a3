// Package reupload makes expired media downloads of a whatsmeow bot heal.
//
// WhatsApp's media links expire after a few weeks. A bot that then downloads an older picture gets 404 or 410, although the
// user's own phone still has the file and uploads it again when it is asked. This package does the asking:
//
//	client := whatsmeow.NewClient(device, log)
//	plugin, err := reupload.Register(client, nil)
//
// From then on client.Download of an expired file just works: the plugin sees the download fail, sends the phone an encrypted
// request, waits for the answer, and finishes the download from the new path. See [Register] for where the call belongs,
// and [Options] for what can be set.
//
// # What needs a hand, and what does not
//
// Media that arrives while the plugin is registered is remembered: messages, history syncs, the media that a message quotes.
// So downloads inside an event handler, of a quoted picture, of a history sync, to a file or many at once need nothing.
// A bot that downloads what came before, from a database of its own, says which message it is about: with [WithMessage],
// [Plugin.Download], [Plugin.DownloadToFile] or [Plugin.Remember]. With a persistent [Index], such as package sqlindex has,
// it does not even need that. [Plugin.RequestReupload] asks without a download.
//
// # What is guaranteed
//
// The phone is asked only for what a download has shown to be expired: 404, 410, or a 403 that says that the URL has expired.
// Any number of callers share one request. What cannot be healed fails as it would without the plugin, with whatsmeow's error
// and the CDN's response; [Cause] tells why it was not healed. An answer that comes late is used by the next download.
// A phone that has refused, or does not answer, is not asked for the same message again for a while.
// Media keys, decrypted answers and URL queries never reach a log or an error.
//
// # Inside event handlers
//
// whatsmeow runs event handlers on one queue, behind which the phone's answer waits. The plugin therefore reads it before it is
// queued, from whatsmeow's receive logger. That is a private field; where it cannot be used, because whatsmeow has
// changed or Register came after Connect, a download inside a handler fails at once with [ErrHandlerBlocked] as its cause, and
// heals the next time. The log says so once.
//
// # Protocol
//
// The request is a <receipt type="server-error"> with an <rmr> node, the answer a <notification type="mediaretry">. Both are
// sealed with AES-256-GCM under a key derived from the media key by HKDF-SHA256, with the message id as additional data. The
// new path is accepted only if the answer names the same message and the path stays on WhatsApp's media host.
package reupload
