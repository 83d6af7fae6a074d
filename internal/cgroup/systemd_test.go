package cgroup

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestScopePath(t *testing.T) {
	for slice, want := range map[string]string{
		"machine.slice":   "/machine.slice/x.scope",
		"a-b-c.slice":     "/a.slice/a-b.slice/a-b-c.slice/x.scope",
		"-.slice":         "/x.scope",
		"user-1000.slice": "/user.slice/user-1000.slice/x.scope",
	} {
		if got := (Scope{Name: "x.scope", Slice: slice}).Path(); got != want {
			t.Errorf("%s: %s, want %s", slice, got, want)
		}
	}
}

func TestDelegated(t *testing.T) {
	l := Layout{Unified: true, Mount: standard, Writable: true, Controllers: []string{"memory"}}
	s, _, err := l.Set("/machine.slice/x.scope/container", nil)
	if err != nil {
		t.Fatal(err)
	}
	d := s.Delegated()
	if len(d.Parents) != 1 || d.Parents[0].Dir != standard+"/machine.slice/x.scope" || !d.Parents[0].Visible {
		t.Errorf("parents %+v, want the scope alone, never made", d.Parents)
	}
	if s.Parents[len(s.Parents)-1].Visible {
		t.Error("the set it was made of has changed")
	}
}

// What systemd says is taken apart as it was put together, and nonsense is an
// error.
func TestDBus(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var w encoder
	w.string("/a/job")
	message := call("to", "/object", "an.interface", "Member", "s", w.Bytes())
	for name, test := range map[string]struct {
		says string
		want error
	}{
		"message":      {"DATA\r\nOK 0123\r\n" + string(message), nil},
		"refusal":      {"REJECTED EXTERNAL\r\n", errors.New("does not let us in")},
		"cut":          {"DATA\r\nOK 0123\r\n" + string(message[:len(message)-3]), errors.New("closed")},
		"huge":         {"DATA\r\nOK 0123\r\nl\x01\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff", errProtocol},
		"bad fields":   {"DATA\r\nOK 0123\r\nl\x01\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00\x01\x01s\x00\xff\xff\xff\x7f", errProtocol},
		"endless line": {strings.Repeat("x", 1<<16), errProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write([]byte(test.says))
			}()
			c, err := dial(socket, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			err = c.send(message)
			var a answer
			if err == nil {
				a, err = c.receive()
			}
			switch {
			case test.want == nil && err == nil:
				if a.kind != methodCall || a.member != "Member" || len(a.strings) != 1 || a.strings[0] != "/a/job" {
					t.Errorf("got %+v", a)
				}
			case test.want == nil || err == nil || !strings.Contains(err.Error(), test.want.Error()):
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

// A scope of the host's systemd: its cgroup is there, delegated, with the
// process, and another of the same name waits for it to go.
func TestScope(t *testing.T) {
	layout, err := Detect()
	if err != nil || !layout.Systemd() {
		t.Skip("needs root and a systemd that manages cgroups of version 2")
	}
	begin := func() *exec.Cmd {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	first, second := begin(), begin()
	s := Scope{Name: "cove-test.scope", Slice: "machine.slice", Description: "a test of cove", PID: first.Process.Pid, StopTimeout: time.Second}
	at := time.Now()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Log("took ", time.Since(at))
	dir := layout.Mount + s.Path()
	if pids, err := Pids([]string{dir}); err != nil || len(pids) != 1 || pids[0] != first.Process.Pid {
		t.Fatalf("in %s: %v, %v; want %d", dir, pids, err, first.Process.Pid)
	}
	if err := Vacate(dir, "monitor"); err != nil {
		t.Fatal(err)
	}
	set, _, err := layout.Set(s.Path()+"/container", nil)
	if err == nil {
		err = set.Delegated().Make()
	}
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(dir + "/container/cgroup.controllers"); err != nil || !strings.Contains(string(text), "memory") {
		t.Errorf("controllers %q, %v", text, err)
	}
	go func() { time.Sleep(300 * time.Millisecond); _ = first.Process.Kill(); _ = first.Wait() }()
	s.PID = second.Process.Pid
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if pids, err := Pids([]string{dir}); err != nil || len(pids) != 1 || pids[0] != second.Process.Pid {
		t.Errorf("the second time: %v, %v; want %d", pids, err, second.Process.Pid)
	}
}
