package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/event"
	"github.com/cove-engine/cove/internal/monitor/runfile"
)

const logText = `2024-01-01T10:00:00.000000000+00:00 stdout F one
2024-01-01T10:00:01.000000000+00:00 stderr F two
2024-01-01T10:00:02.000000000+00:00 stdout F three
`

func lines(t *testing.T, e *Engine, o LogOptions) string {
	t.Helper()
	var got []string
	err := e.Logs(t.Context(), "a", o, func(l LogLine) error {
		got = append(got, l.Stream+":"+string(l.Text))
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return strings.Join(got, " ")
}

func TestLogs(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	if got := lines(t, e, LogOptions{}); got != "" {
		t.Errorf("never started: %q", got)
	}
	mustWrite(t, e.logPath(c), logText)
	at := time.Date(2024, 1, 1, 10, 0, 1, 0, time.UTC)
	for _, test := range []struct {
		o    LogOptions
		want string
	}{
		{LogOptions{}, "stdout:one stderr:two stdout:three"},
		{LogOptions{Tail: new(0)}, ""},
		{LogOptions{Tail: new(2)}, "stderr:two stdout:three"},
		{LogOptions{Since: at}, "stderr:two stdout:three"},
		{LogOptions{Until: at}, "stdout:one stderr:two"},
		{LogOptions{Follow: true}, "stdout:one stderr:two stdout:three"}, // its monitor is gone
	} {
		if got := lines(t, e, test.o); got != test.want {
			t.Errorf("%+v: %q, want %q", test.o, got, test.want)
		}
	}
	mine := errors.New("mine")
	if err := e.Logs(t.Context(), "a", LogOptions{}, func(LogLine) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("error %v, want mine", err)
	}
	stored(t, e, "silent", func(c *cove.Container) { c.Spec.LogDriver = "none" })
	err := e.Logs(t.Context(), "silent", LogOptions{}, nil)
	wantKind(t, err, cove.Unsupported, "this container is not logging output")
}

// Following goes on while the monitor holds its lock, and gives what comes.
func TestLogsFollow(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	mustWrite(t, e.logPath(c), logText)
	alive, err := os.OpenFile(filepath.Join(e.dir(c.ID), runfile.Name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(alive.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := 0
	err = e.Logs(ctx, "a", LogOptions{Follow: true}, func(l LogLine) error {
		if n++; n == 3 {
			f, err := os.OpenFile(e.logPath(c), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("2024-01-01T10:00:03.000000000+00:00 stdout F four\n")
			time.AfterFunc(300*time.Millisecond, func() { _ = alive.Close() })
			return err
		}
		return nil
	})
	if err != nil || n != 4 || ctx.Err() != nil {
		t.Errorf("%d lines, %v, %v", n, err, ctx.Err())
	}
}

func TestEvents(t *testing.T) {
	e, _ := engineWith(t)
	e.events = event.File{Path: e.conf.EventLog()}
	for _, ev := range []cove.Event{{Type: "container", Name: "a", Status: "create"}, {Type: "image", Name: "i", Status: "pull"}, {Type: "container", Name: "a", Status: "died"}} {
		if err := e.events.Write(ev); err != nil {
			t.Fatal(err)
		}
	}
	read := func(filters map[string][]string) (string, error) {
		var got []string
		err := e.Events(t.Context(), time.Time{}, time.Time{}, false, filters, func(ev cove.Event) error {
			got = append(got, ev.Status)
			return nil
		})
		return strings.Join(got, " "), err
	}
	for _, test := range []struct {
		filters map[string][]string
		want    string
	}{
		{nil, "create pull died"},
		{map[string][]string{"type": {"container"}}, "create died"},
		{map[string][]string{"event": {"pull", "died"}}, "pull died"},
		{map[string][]string{"container": {"a"}, "event": {"died"}}, "died"},
	} {
		if got, err := read(test.filters); err != nil || got != test.want {
			t.Errorf("%v: %q, %v, want %q", test.filters, got, err, test.want)
		}
	}
	_, err := read(map[string][]string{"foo": {"x"}})
	wantKind(t, err, cove.Invalid, "foo is an invalid filter")
	e.conf.File.Engine.EventsLogger = "none"
	_, err = read(nil)
	wantKind(t, err, cove.Unsupported, "")
}
