package wire

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// What a peer has said before it closed is heard, although it has not read
// all that was sent to it.
func TestReceiveAfterReset(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	if err := Send(ours, Go, nil); err != nil {
		t.Fatal(err)
	}
	if err := Send(theirs, Failed, []byte("why")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(theirs); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	kind, body, _, err := Receive(ours, buf)
	if err != nil || kind != Failed || string(body) != "why" {
		t.Errorf("got %v %q, %v; want Failed \"why\"", kind, body, err)
	}
	if _, _, _, err := Receive(ours, buf); err != io.EOF {
		t.Errorf("then %v, want io.EOF", err)
	}
}
