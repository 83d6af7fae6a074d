package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// FuzzHook reads hooks that packages bring: a hook that is taken has a program,
// and stages that cove knows; its conditions can be asked about any container.
func FuzzHook(f *testing.F) {
	dir, err := os.MkdirTemp("/dev/shm", "cove-hooks-")
	if err != nil {
		f.Skip(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	for _, s := range []string{
		`{"version":"1.0.0","hook":{"path":"/bin/true","args":["true"],"timeout":3},"when":{"always":true},"stages":["prestart"]}`,
		`{"version":"1.0.0","hook":{"path":"/bin/true"},"when":{"commands":[".*/sh$"],"annotations":{"^a$":"b"},"hasBindMounts":true},"stages":["precreate","poststop"]}`,
		`{"hook":"/bin/true","stages":["poststart"],"cmds":["("]}`, `{"version":"0.1.0","hook":"/bin/true","stage":["prestart"],"cmd":[".*"]}`,
		`{"version":"2.0.0"}`, `{"version":"1.0.0","hook":null,"when":{},"stages":null}`, `null`, `[`,
	} {
		f.Add([]byte(s))
	}
	spec := &specs.Spec{Process: &specs.Process{Args: []string{"/bin/sh"}}}
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(dir, "a.json")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		found, _, err := readHooks([]string{dir})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("%q: more than a line: %q", text, err)
			}
			return
		}
		for _, h := range found {
			if !filepath.IsAbs(h.Hook.Path) {
				t.Errorf("%q: program %q", text, h.Hook.Path)
			}
			for _, stage := range h.Stages {
				if stage != stagePrecreate && hooksAt(&specs.Hooks{}, stage) == nil {
					t.Errorf("%q: stage %q", text, stage)
				}
			}
			_, _ = h.When.Match(spec, map[string]string{"a": "b"}, true)
			_, _ = h.When.Match(&specs.Spec{}, nil, false)
		}
	})
}

// FuzzMonitor has a monitor say anything to who is attached, to who starts an exec
// and to who waits: each comes back.
func FuzzMonitor(f *testing.F) {
	for _, s := range []string{`X{"code":3}`, `X[`, `F{"step":"exec","text":"no","errno":3}`, `F{"text":"a\nb"}`, `F`, `D`, `R`, `s{"pid":1}`, `1out`, `2`, `a`, `?`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) == 0 || len(packet) > wire.Max {
			return
		}
		for _, hear := range []func(c *monitor.Conn) error{
			func(c *monitor.Conn) error {
				_, err := (&session{conn: c}).receive(t.Context())
				return err
			},
			func(c *monitor.Conn) error {
				return (&execRun{session: session{conn: c}}).awaitStart(t.Context())
			},
			func(c *monitor.Conn) error { return c.Request(wire.Stop, wire.StopBody{}) },
			func(c *monitor.Conn) error { _, err := c.Probe(t.Context(), time.Second); return err },
			(*monitor.Conn).Hooked,
		} {
			ours, theirs, err := wire.Pair()
			if err != nil {
				t.Fatal(err)
			}
			if err := wire.SendPacket(theirs, packet, 0); err != nil {
				t.Fatal(err)
			}
			_ = unix.Shutdown(theirs, unix.SHUT_WR)
			c := monitor.Wrap(ours)
			_ = hear(c)
			c.Close()
			_ = unix.Close(theirs)
		}
	})
}

// FuzzEnvelope reads what an aide was told: what can be read can be told again.
func FuzzEnvelope(f *testing.F) {
	for _, s := range []string{`{}`, `null`, `{"id":"x","health":{"plan":null}}`, `{"uplink":{"args":["pasta"]},"forward":{"targets":["10.0.0.1"]}}`, `{"handed":["run"],"resolver":{"networks":[]}}`, `[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		env := new(wire.Envelope)
		if json.Unmarshal(text, env) != nil {
			return
		}
		again, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		second := new(wire.Envelope)
		err = json.Unmarshal(again, second)
		if third, _ := json.Marshal(second); err != nil || string(third) != string(again) {
			t.Errorf("%q is told as %q, then as %q: %v", text, again, third, err)
		}
	})
}

// FuzzFeatures takes any answer of a runtime for what it has: it is believed, and
// what it names as lacking is one word of the configuration or nothing.
func FuzzFeatures(f *testing.F) {
	for _, s := range []string{
		`{"ociVersionMin":"1.0.0","ociVersionMax":"1.2.0","hooks":["prestart"],"linux":{"namespaces":["pid"],"capabilities":["CAP_CHOWN"],"cgroup":{"v1":false,"v2":true},"seccomp":{"enabled":true,"actions":["SCMP_ACT_KILL"]},"apparmor":{"enabled":false},"selinux":{"enabled":null}}}`,
		`{"ociVersionMax":"x","linux":{"seccomp":{"enabled":false},"namespaces":[]}}`, `{"linux":null}`, `{}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	spec := &specs.Spec{
		Process: &specs.Process{ApparmorProfile: "a", SelinuxLabel: "b", Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}}},
		Hooks:   &specs.Hooks{Poststop: []specs.Hook{{Path: "/a"}}},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "pid"}, {Type: "cgroup"}},
			Seccomp: &specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_ERRNO"}},
	}
	before, _ := json.Marshal(spec)
	f.Fuzz(func(t *testing.T, text []byte) {
		has := new(features.Features)
		if json.Unmarshal(text, has) != nil {
			return
		}
		for _, v1 := range []bool{false, true} {
			what := lack(has, spec, v1)
			if strings.ContainsAny(what, "\n\r") {
				t.Errorf("%q: %q", text, what)
			}
			// Who says that he has it has it.
			if has.Hooks != nil && slices.Contains(has.Hooks, "poststop") && strings.HasPrefix(what, "hooks.") {
				t.Errorf("%q: it lacks %s", text, what)
			}
		}
		if after, _ := json.Marshal(spec); string(after) != string(before) {
			t.Errorf("%q changed the configuration", text)
		}
	})
}
