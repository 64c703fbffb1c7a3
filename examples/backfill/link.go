package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mdp/qrterminal/v3"
	"go.mau.fi/whatsmeow"
)

// connect connects to WhatsApp. It links the bot to an account first if that has not been done.
func (a *account) connect(ctx context.Context, out io.Writer, phone string) error {
	if a.client.Store.ID != nil {
		a.client.InitialAutoReconnect = true // do not give up because the network comes up after the bot
		return a.client.Connect()
	}
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
			fmt.Fprintln(out, "Scan this on your phone: WhatsApp > Linked devices > Link a device. Or run with -phone.")
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
			fmt.Fprintf(out, "Type this on your phone: WhatsApp > Linked devices > Link a device > Link with phone number:\n\n    %s\n\n", code)
		case item == whatsmeow.QRChannelSuccess:
			return nil
		case item == whatsmeow.QRChannelTimeout:
			return errors.New("the QR code was not scanned in time; run it again")
		case item == whatsmeow.QRChannelClientOutdated:
			return errors.New("WhatsApp no longer accepts this version; run go get go.mau.fi/whatsmeow@latest and build again")
		case item.Error != nil:
			return fmt.Errorf("linking has failed; run the backfill again: %w", item.Error)
		default:
			return fmt.Errorf("linking has failed with %q; run the backfill again", item.Event)
		}
	}
	return errors.New("linking has ended; run the backfill again")
}
