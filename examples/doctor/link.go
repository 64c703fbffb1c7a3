package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mdp/qrterminal/v3"
	"go.mau.fi/whatsmeow"
)

// link connects to WhatsApp as a new device, and returns when the phone has linked it.
func (a *account) link(ctx context.Context, out io.Writer, phone string) error {
	codes, err := a.client.GetQRChannel(ctx)
	if err != nil {
		return err
	}
	if err = a.client.Connect(); err != nil {
		return fmt.Errorf("WhatsApp cannot be reached; check the network: %w", err)
	}
	asked := false
	for item := range codes {
		switch {
		case item.Event == whatsmeow.QRChannelEventCode && phone == "":
			fmt.Fprintln(out, "Scan this on your phone: WhatsApp > Linked devices > Link a device.\nOr run with -phone and your number.")
			qrterminal.GenerateHalfBlock(item.Code, qrterminal.L, out)
		case item.Event == whatsmeow.QRChannelEventCode:
			if asked {
				continue // the code stays good while new QR codes come
			}
			asked = true
			code, err := a.client.PairPhone(ctx, phone, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
			if err != nil {
				return fmt.Errorf("there is no code for %s; write the number as +491701234567, and wait some minutes after several tries: %w", phone, err)
			}
			fmt.Fprintf(out, "Type this on your phone:\nWhatsApp > Linked devices > Link a device > Link with phone number:\n\n    %s\n\n", code)
		case item == whatsmeow.QRChannelSuccess:
			return nil
		case item == whatsmeow.QRChannelTimeout:
			return errors.New("it was not linked in time; run it again")
		case item == whatsmeow.QRChannelClientOutdated:
			return errors.New("WhatsApp no longer accepts this version; run go get go.mau.fi/whatsmeow@latest and build again")
		case item.Error != nil:
			return fmt.Errorf("linking has failed; run the doctor again: %w", item.Error)
		default:
			return fmt.Errorf("linking has failed with %q; run the doctor again", item.Event)
		}
	}
	return errors.New("linking has ended; run the doctor again")
}
