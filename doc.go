// Package reupload makes expired media downloads of a whatsmeow bot heal.
//
// WhatsApp's media links expire after a few weeks. A bot that then downloads an older picture gets
// 404 or 410, although the user's own phone still has the file and uploads it again when it is
// asked. This package does the asking:
//
//	client := whatsmeow.NewClient(device, log)
//	plugin, err := reupload.Register(client, nil)
//
// From then on client.Download of an expired file just works: the plugin sees the download fail,
// tries paths that are known, sends the phone an encrypted request, waits for the answer, and
// finishes the download from the new path, compared with the hash of the file. See [Register] for
// where the call belongs, and [Options] for what can be set.
//
// # What needs a hand, and what does not
//
// Media that arrives while the plugin is registered is remembered: messages, history syncs, the
// media that a message quotes. So downloads inside an event handler, of a quoted picture, of a
// history sync, to a file or many at once need nothing. A bot that downloads what came before it
// was started keeps a persistent [Index], such as package sqlindex has. One that has messages in a
// database of its own sets Options.Lookup, or says which message a download is about: with
// [WithMessage], [WithRequest], [Plugin.Download], [Plugin.DownloadToFile] or [Plugin.Remember].
// [Plugin.RequestReupload] asks without a download, and [Plugin.RequestAll] for many files at once.
// A part of the account's history that has expired is asked for, and comes as a history sync of its
// own: see [ErrHistoryAsked]. [Plugin.FreshPath] returns a path that works, for media that is sent
// again by reference.
//
// # What is guaranteed
//
// A download asks the phone only for what has expired: 404, 410, a 403 that says that the URL has
// expired, and a 400 or 403 for a direct path that has lost its query. Any number of callers share
// one request, and a refusal is final only if every message with the file was asked for. What
// cannot be healed fails as it would without the plugin, with whatsmeow's error and the CDN's
// response; [Cause] tells why it was not healed. An answer that comes late is used by the next
// download. Media keys, decrypted answers and URL queries never reach a log or an error.
//
// # How often the phone is asked
//
// A phone that has refused a file of a message is not asked for it again for Options.RefusalPause,
// and one that was silent for Options.SilencePause, doubling; the index keeps that over a restart,
// and a [PausedError] says when it ends. After three time-outs in a row a chat counts as silent,
// and after those of three chats the phone: one request a minute tries whether it is back, and
// others fail at once with [ErrPhoneSilent]. After 60 requests at once, one goes out each
// Options.Pace, and no chat takes more than its share. A bot that asks the phone by itself is left
// to do so: its plain downloads then use what is known, and fail with [ErrNotAsked]. Downloads
// under [WithBackfill] give way to others, and those under [WithoutAsking] do not ask.
//
// # Inside event handlers
//
// whatsmeow runs event handlers on one queue, behind which the phone's answer waits. The plugin
// therefore reads it before it is queued, from whatsmeow's receive logger. That is a private field;
// where it cannot be used, because whatsmeow has changed or Register came after Connect, a download
// inside a handler fails with [ErrHandlerBlocked] as its cause, and heals the next time.
// [Plugin.Degraded] and the log say so. A handler waits for Options.HandlerTimeout at the most,
// since the bot's next message waits behind it. In a bot that handles messages in goroutines no
// message waits.
//
// # Closing
//
// [Plugin.Close] belongs after the client's Disconnect, so that the index misses nothing that
// comes, and before the database of the index is closed.
//
// # Protocol
//
// The request is a <receipt type="server-error"> with an <rmr> node, the answer a <notification
// type="mediaretry">. Both are sealed with AES-256-GCM under a key derived from the media key by
// HKDF-SHA256, with the message id as additional data. The new path is accepted only if the answer
// names no other message and the path stays on WhatsApp's media host. A request for a part of the
// history has category="peer" in place of the <rmr> node, and its answer is a message.
package reupload
