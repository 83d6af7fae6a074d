package program

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// TestMain is a program that panics where nobody can recover, when it is asked to.
func TestMain(m *testing.M) {
	if how := os.Getenv("COVE_TEST_PANIC"); how != "" {
		panicBriefly()
		if how == "at length" {
			panicAtLength()
		}
		println("not yet")
		go func() {
			if how == "fatally" {
				new(sync.Mutex).Unlock()
			}
			panic(fmt.Errorf("open x.lock: %w\n\tand more", errors.ErrUnsupported))
		}()
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

func TestPanic(t *testing.T) {
	for how, want := range map[string]string{
		"briefly": "not yet\nError: panic: open x.lock: unsupported operation\n",
		"fatally": "not yet\nError: fatal error: sync: unlock of unlocked mutex\n",
	} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "COVE_TEST_PANIC="+how)
		text, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 125 || string(text) != want {
			t.Errorf("%s: %d, %s", how, code, text)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "COVE_TEST_PANIC=at length")
	if text, _ := cmd.CombinedOutput(); !strings.Contains(string(text), "panic_test.go:") {
		t.Errorf("it does not tell where: %s", text)
	}
}

// What is no message goes where it is to go, without a newline: the runtime's
// poller is woken so.
func TestWriteElsewhere(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	one := [8]byte{1}
	if n := writeBriefly(w.Fd(), unsafe.Pointer(&one), 8); n != 8 {
		t.Errorf("wrote %d", n)
	}
	_ = r.SetReadDeadline(time.Now().Add(time.Minute))
	var got [8]byte
	if n, err := r.Read(got[:]); err != nil || got != one {
		t.Errorf("read %d, %v, %v; want %v", n, got, err, one)
	}
}
