package wire

import (
	"encoding/json"
	"io"
	"strings"
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

// A peer that has ended has read what was sent to it, or has not.
func TestUnread(t *testing.T) {
	for _, reads := range []bool{true, false} {
		ours, theirs, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ours)
		if err := Send(ours, Go, nil); err != nil {
			t.Fatal(err)
		}
		if reads {
			if _, _, _, err := Receive(theirs, make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Close(theirs); err != nil {
			t.Fatal(err)
		}
		if got := Unread(ours); got == reads {
			t.Errorf("read %v: Unread is %v", reads, got)
		}
		if _, _, _, err := Receive(ours, make([]byte, 64)); err != io.EOF {
			t.Errorf("then %v, want io.EOF", err)
		}
	}
}

// A system call that the kernel does not have is no riddle; a command may
// itself be kept from one by a filter.
func TestFailureOfOldKernel(t *testing.T) {
	f := Fail("mount sysfs on /sys", unix.ENOSYS)
	if want := "mount sysfs on /sys: function not implemented: it takes Linux 5.12 or newer"; f.Error() != want {
		t.Errorf("got %q, want %q", f.Error(), want)
	}
	f = &Failure{Step: "exec /x", Errno: unix.ENOSYS, Exec: true}
	if want := "exec /x: function not implemented"; f.Error() != want {
		t.Errorf("got %q, want %q", f.Error(), want)
	}
}

// FuzzReceive sends what no cove would: any bytes, with descriptors. Whatever
// comes of it, none of them stays open unseen.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{byte(Attach), '{', '}'}, 1, 64)
	f.Add([]byte{}, 0, 64)
	f.Add([]byte{byte(Exec)}, MaxFDs, 1)
	f.Add([]byte("x"), MaxFDs+3, 64)
	f.Fuzz(func(t *testing.T, packet []byte, descriptors, room int) {
		if len(packet) == 0 || len(packet) > Max || room < 1 || room > Max {
			return
		}
		ours, theirs, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(ours)
		before := lowestFree(t)
		var fds []int
		for range min(max(descriptors, 0), 2*MaxFDs) {
			fds = append(fds, theirs)
		}
		err = SendPacket(theirs, packet, 0, fds...)
		unix.Close(theirs)
		if err != nil {
			return // more descriptors than the kernel carries
		}
		kind, body, got, err := Receive(ours, make([]byte, room))
		if err != nil && (len(got) > 0 || body != nil) {
			t.Errorf("%v, and %d descriptors", err, len(got))
		}
		if err == nil && (byte(kind) != packet[0] || string(body) != string(packet[1:]) || len(got) != len(fds)) {
			t.Errorf("sent %q with %d descriptors, got %c %q with %d", packet, len(fds), kind, body, len(got))
		}
		for _, fd := range got {
			unix.Close(fd)
		}
		// Theirs is free now, and nothing above it is taken.
		if after := lowestFree(t); after > before {
			t.Errorf("descriptor %d is still open", before)
		}
	})
}

// lowestFree is the number that the next descriptor gets.
func lowestFree(t *testing.T) int {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	return fd
}

// A body that no packet holds arrives, with the descriptors beside it.
func TestLong(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	defer unix.Close(theirs)
	free := lowestFree(t)
	for _, size := range []int{1, short - 3, short, Max, 3 << 20} {
		text := strings.Repeat("x", size)
		if err := SendLong(ours, Start, text, ours, theirs); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		kind, body, fds, err := Receive(theirs, make([]byte, Max))
		if err != nil || kind != Start {
			t.Fatalf("%d bytes: %c, %v", size, kind, err)
		}
		var got string
		body, rest, err := Long(body, fds)
		if err == nil {
			err = json.Unmarshal(body, &got)
		}
		if err != nil || got != text || len(rest) != 2 {
			t.Errorf("%d bytes: %d arrive with %d descriptors, %v", size, len(got), len(rest), err)
		}
		for _, fd := range fds { // also what was the body's
			_ = unix.Close(fd)
		}
		if now := lowestFree(t); now != free {
			t.Errorf("%d bytes: descriptor %d is left", size, free)
		}
	}
	// Something else in the place of a body.
	if err := Send(ours, Start, nil, ours); err != nil {
		t.Fatal(err)
	}
	_, body, fds, err := Receive(theirs, make([]byte, Max))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Long(body, fds); err == nil {
		t.Error("a socket was taken for a body")
	}
}

// A failure that names something very long is heard, too.
func TestLongFailure(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	defer unix.Close(theirs)
	if err := SendJSON(ours, Failed, &Failure{Step: "find user " + strings.Repeat("ü", 100000), Text: "no matching entries"}); err != nil {
		t.Fatal(err)
	}
	var got Failure
	_, body, _, err := Receive(theirs, make([]byte, Max))
	if err == nil {
		err = json.Unmarshal(body, &got)
	}
	if err != nil || !strings.HasPrefix(got.Step, "find user üü") || !strings.HasSuffix(got.Step, "ü…") || got.Text != "no matching entries" {
		t.Errorf("%.100s %q, %v", got.Step, got.Text, err)
	}
}
