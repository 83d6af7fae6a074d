package uplink

import (
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// A program may say more than a pipe holds before it ends or is ready.
func TestStartListens(t *testing.T) {
	const flood = "echo why >&2; dd if=/dev/zero bs=1024 count=300 2>/dev/null | tr '\\0' '\\n'; "
	for name, test := range map[string]struct {
		script string
		ready  bool
		want   string
	}{
		"fails":                 {flood + "exit 1", false, "/bin/sh: why"},
		"fails before ready":    {flood + "exit 1", true, "/bin/sh: why"},
		"closes ready and ends": {"exec 3>&-; echo why >&2; exit 0", true, "/bin/sh: why"},
		"background":            {flood + "exit 0", false, ""},
		"ready":                 {flood + "echo >&3; " + flood, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			go func() {
				ended <- start(&wire.Uplink{Args: []string{"/bin/sh", "-c", test.script}, ReadyFD: test.ready})
			}()
			select {
			case err := <-ended:
				if got := text(err); !strings.HasPrefix(got, test.want) || (test.want == "") != (err == nil) {
					t.Errorf("%q, not %q", got, test.want)
				}
			case <-time.After(time.Minute):
				t.Error("it waits for a program that waits to be listened to")
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSaid(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "it ended without a word",
		"Failed to send 46 bytes to syslog\n": "it ended without a word",
		"Failed to send 46 bytes to syslog\nNo  external\tinterface\n\nx": "No external interface; x",
	} {
		if got := said(text); got != want {
			t.Errorf("%q: %q, not %q", text, got, want)
		}
	}
}
