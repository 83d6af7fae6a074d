package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

func TestWithoutEngine(t *testing.T) {
	for _, c := range []struct {
		args     string
		code     int
		out, err string // parts
	}{
		{"--version", 0, "cove version " + cove.Version, ""},
		{"-v", 0, "cove version", ""},
		{"--help", 0, "Available Commands:", ""},
		{"", 125, "Available Commands:", "missing command"},
		{"help run", 0, "cove run [options] IMAGE", ""},
		{"run --help", 0, "--publish-all", ""},
		{"container run --help", 0, "cove container run [options] IMAGE", ""},
		{"container --help", 0, "prune", ""},
		{"container", 125, "prune", "missing command"},
		{"ps --help", 0, "cove ps [options]", ""},
		{"container ls --help", 0, "--noheading", ""},
		{"foo", 125, "", "unrecognized command `cove foo`"},
		{"lgos", 125, "", "Did you mean this?\n\tlogs"},
		{"container zzzzzz", 125, "", "unrecognized command `cove container zzzzzz`\nTry 'cove container --help' for more information"},
		{"secret ls", 125, "", "Error: cove secret: not supported by cove yet"},
		{"umount x", 125, "", "Error: cove umount: not supported by cove yet"},
		{"container clone x", 125, "", "Error: cove container clone: not supported by cove yet"},
		{"--foo ps", 125, "", "Error: unknown flag: --foo\nSee 'cove --help'"},
		{"ps --foo", 125, "", "Error: unknown flag: --foo\nSee 'cove ps --help'"},
		{"container run --foo", 125, "", "See 'cove container run --help'"},
		{"--remote ps", 125, "", "Error: --remote is not supported by cove yet"},
		{"--url x ps", 125, "", "Error: --url is not supported by cove yet"},
		{"-c x ps", 125, "", "Error: --connection is not supported by cove yet"},
		{"-r ps", 125, "", "Error: --remote is not supported by cove yet"},
		{"--log-level loud ps", 125, "", `log level "loud" is not supported`},
		{"run", 125, "", "requires at least 1 argument"},
		{"rm", 125, "", "you must provide at least one name or id"},
		{"start", 125, "", "start requires at least one argument"},
		{"exec", 125, "", "exec requires the name or ID of a container"},
		{"logs", 125, "", "specify at least one container name or ID to log"},
		{"inspect", 125, "", "no names or ids specified"},
		{"rm -t 1 x", 125, "", "--force option must be specified to use the --time option"},
		{"rm -a x", 125, "", "no arguments are needed with --all"},
		{"ps -q -s", 125, "", "quiet conflicts with size and namespace"},
		{"ps --sort foo", 125, "", `"foo" is not a valid value.  Choose from: "command, created, id, image, names, runningfor, size, status"`},
		{"ps --filter foo", 125, "", `invalid filter "foo"`},
		{"ps --external", 125, "", "--external is not supported by cove yet"},
		{"run --secret x img", 125, "", "Error: --secret is not supported by cove yet"},
		{"completion", 125, "", "name one shell"},
		{"cp a b", 125, "", "you must specify one container"},
		{"start -a x y", 125, "", "you cannot start and attach multiple containers at once"},
		{"kill -s 99 x", 125, "", "valid signals are 1 through 64"},
	} {
		t.Run(c.args, func(t *testing.T) {
			r := cli(t, nil, strings.Fields(c.args)...)
			if r.code != c.code || !strings.Contains(r.out, c.out) || !strings.Contains(r.err, c.err) || c.err == "" && r.err != "" {
				t.Errorf("code %d, want %d\nout: %.400q\nerr: %.400q", r.code, c.code, r.out, r.err)
			}
		})
	}
}

func TestGlobals(t *testing.T) {
	var got Globals
	var out, errs bytes.Buffer
	for _, args := range [][]string{
		{"cove", "--root", "/r", "--runroot=/rr", "--storage-opt", "a=b", "--module", "m", "ps"},
		{"cove", "ps", "--root", "/r", "--runroot=/rr", "--storage-opt", "a=b", "--module", "m"},
	} {
		code := Main(t.Context(), args, Stdio{Out: &out, Err: &errs}, func(g Globals) (Engine, error) {
			got = g
			return &fakeContainers{list: func(engine.ListOptions) ([]engine.Container, error) { return nil, nil }}, nil
		})
		if code != 0 || got.Root != "/r" || got.RunRoot != "/rr" || len(got.StorageOpts) != 1 || got.Modules[0] != "m" || got.LogLevel != "warn" {
			t.Errorf("%v: %d %+v %s", args, code, got, errs.String())
		}
	}
}

// Every command must build, have help with a usage line, and name its exit
// codes unless it belongs to another room's list.
func TestEveryCommandHasHelp(t *testing.T) {
	var walk func(words []string, list []entry)
	walk = func(words []string, list []entry) {
		for _, e := range list {
			w := append(words[:len(words):len(words)], e.name)
			if e.children != nil {
				walk(w, e.children())
				continue
			}
			if e.hidden {
				continue
			}
			r := cli(t, nil, append(w, "--help")...)
			if r.code != 0 || !strings.Contains(r.out, "Usage:\n  cove "+strings.Join(w, " ")) {
				t.Errorf("%v: %d %.300q %q", w, r.code, r.out, r.err)
			}
		}
	}
	walk(nil, commandTree())
	for _, e := range containerCommands() {
		if e.hidden {
			continue
		}
		if r := cli(t, nil, "container", e.name, "--help"); !strings.Contains(strings.ToLower(r.out), "exit codes:") {
			t.Errorf("%s: no exit codes in its help", e.name)
		}
	}
}

func TestExitCodes(t *testing.T) {
	fail := func(k cove.Kind) error { return cove.E("start container", "x", k, context.DeadlineExceeded) }
	for _, c := range []struct {
		args string
		err  error
		code int
	}{
		{"run img", fail(cove.Internal), 125},
		{"run img", fail(cove.NotFound), 125},
		{"run img", fail(cove.NotExecutable), 126},
		{"run img", fail(cove.NoCommand), 127},
		{"run img", nil, 42},
		{"run -d img", nil, 0},
		{"start x", fail(cove.NoCommand), 125},
		{"stop x", fail(cove.NotFound), 125},
		{"rm x", fail(cove.NotFound), 1},
		{"rm x", fail(cove.WrongStatus), 2},
		{"rm x", fail(cove.InUse), 125}, // others depend on it,
		{"rm x", fail(cove.Internal), 125},
		{"rm -f x", fail(cove.NotFound), 0},
		{"rm -i x", fail(cove.NotFound), 0},
		{"stop -i x", fail(cove.NotFound), 0},
		{"exec x true", fail(cove.WrongStatus), 255},
		{"exec x true", fail(cove.NoCommand), 127},
		{"exec x true", nil, 42},
		{"wait x", fail(cove.NotFound), 125},
		{"container exists x", nil, 1},
		{"container inspect x", nil, 125},
	} {
		t.Run(c.args, func(t *testing.T) {
			e := &fakeContainers{
				run: func(_ cove.ContainerSpec, o engine.RunOptions) (engine.RunResult, error) {
					return engine.RunResult{ID: "id", ExitCode: 42, Detached: o.Detach}, c.err
				},
				remove: func(string, engine.RemoveOptions) error { return c.err },
				stop:   func(string, engine.StopOptions) error { return c.err },
				start: func(string, engine.StartOptions) (engine.RunResult, error) {
					return engine.RunResult{}, c.err
				},
				exec: func(string, engine.ExecSpec, engine.AttachOptions) (engine.ExecResult, error) {
					return engine.ExecResult{ExitCode: 42}, c.err
				},
				wait: func(string, engine.WaitOptions) (int, error) { return 0, c.err },
			}
			if r := cli(t, e, strings.Fields(c.args)...); r.code != c.code {
				t.Errorf("code %d, want %d: %q", r.code, c.code, r.err)
			}
		})
	}
}

// Several names: when all are known all are tried, and those that worked are
// printed; with one that is unknown none is touched.
func TestSeveralNames(t *testing.T) {
	var tried []string
	var mu sync.Mutex // several are tried at once
	e := &fakeContainers{
		known: map[string]engine.Container{"a": {}, "b": {}, "c": {}, "d": {}},
		remove: func(n string, _ engine.RemoveOptions) error {
			mu.Lock()
			defer mu.Unlock()
			tried = append(tried, n)
			if n == "b" || n == "c" {
				return cove.E("", n, cove.WrongStatus, errors.New("runs"))
			}
			return nil
		},
	}
	r := cli(t, e, "rm", "a", "b", "c", "d")
	if r.code != 2 || r.out != "a\nd\n" || strings.Count(r.err, "runs") != 2 || len(tried) != 4 {
		t.Errorf("%+v %v", r, tried)
	}
	tried = nil
	r = cli(t, e, "rm", "a", "nobody", "d")
	if r.code != 1 || r.out != "" || strings.Count(r.err, "Error: no container") != 1 || len(tried) != 0 {
		t.Errorf("one unknown: %+v %v", r, tried)
	}
	if r = cli(t, e, "rm", "-f", "a", "nobody", "d"); r.code != 0 || r.out != "a\nd\n" {
		t.Errorf("one unknown, by force: %+v", r)
	}
}

func TestRunHandsStreams(t *testing.T) {
	var got engine.RunOptions
	e := &fakeContainers{run: func(_ cove.ContainerSpec, o engine.RunOptions) (engine.RunResult, error) {
		got = o
		return engine.RunResult{ID: "abc", Warnings: []string{"careful"}}, nil
	}}
	r := cli(t, e, "run", "img")
	if got.Attach.Streams.In != nil || !got.Attach.NoStdin || got.Attach.Streams.Out == nil || !got.Attach.SigProxy || r.out != "" || r.err != "WARNING: careful\n" {
		t.Errorf("%+v %+v", got.Attach, r)
	}
	r = cli(t, e, "run", "-i", "-a", "stdout", "img")
	if got.Attach.Streams.In != nil || got.Attach.Streams.Out == nil || got.Attach.Streams.Err != nil {
		t.Errorf("%+v %+v", got.Attach, r)
	}
	r = cli(t, e, "run", "-it", "img")
	if got.Attach.Streams.In == nil || got.Attach.Streams.Terminal != nil || !strings.Contains(r.err, "The input device is not a TTY") {
		t.Errorf("%+v %+v", got.Attach, r)
	}
	r = cli(t, e, "run", "-d", "--tls-verify=false", "img")
	if r.out != "abc\n" || !got.Detach || got.TLSVerify == nil || *got.TLSVerify || strings.Join(got.CommandLine, " ") != "cove run -d --tls-verify=false img" {
		t.Errorf("%+v %+v", got, r)
	}
}

func TestFlagForms(t *testing.T) {
	var spec cove.ContainerSpec
	e := &fakeContainers{run: func(s cove.ContainerSpec, _ engine.RunOptions) (engine.RunResult, error) {
		spec = s
		return engine.RunResult{}, nil
	}}
	for _, c := range []struct {
		args string
		ok   func(cove.ContainerSpec) bool
	}{
		{"run --net=host img", func(s cove.ContainerSpec) bool { return s.Network == "host" }},
		{"container run --net none -- img -x --rm", func(s cove.ContainerSpec) bool {
			return s.Network == "none" && !s.Remove && strings.Join(s.Command, " ") == "-x --rm"
		}},
		{"run img --help", func(s cove.ContainerSpec) bool { return len(s.Command) == 1 && s.Command[0] == "--help" }},
		{"--log-level debug run --root /x -itd img", func(s cove.ContainerSpec) bool { return s.Terminal && s.Stdin }},
		{"container --root /x run -h box img", func(s cove.ContainerSpec) bool { return s.Hostname == "box" }},
		{"run -v=/a:/b -p8080:80 -eA=1 img help", func(s cove.ContainerSpec) bool {
			return len(s.Mounts) == 1 && len(s.Ports) == 1 && s.Env[len(s.Env)-1] == "A=1" && s.Command[0] == "help"
		}},
	} {
		spec = cove.ContainerSpec{}
		if r := cli(t, e, strings.Fields(c.args)...); r.code != 0 || spec.Image != "img" || !c.ok(spec) {
			t.Errorf("%s: %+v %+v", c.args, r, spec)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := cli(t, nil, "completion", shell); r.code != 0 || len(r.out) < 1000 {
			t.Errorf("%s: %d %q", shell, r.code, r.err)
		}
	}
	e := &fakeContainers{list: func(engine.ListOptions) ([]engine.Container, error) {
		web := engine.Container{Container: cove.Container{ID: strings.Repeat("ab", 32), Name: "web"}, Status: cove.Running}
		old := engine.Container{Container: cove.Container{ID: strings.Repeat("cd", 32), Name: "old"}, Status: cove.Exited}
		return []engine.Container{web, old}, nil
	}}
	for _, c := range []struct{ args, want, not string }{
		{"__complete stop ", "web", "old"},
		{"__complete start ", "old", "web"},
		{"__complete rm we", "web", "old"},
		{"__complete container rm ", "web", "--all"},
		{"__complete run --net", "--network-alias", "web"},
		{"__complete con", "container", "run"},
		{"__complete run --pull n", "never", "always"},
		{"__complete ps --sort ", "runningfor", "table"},
		{"__complete wait --condition run", "running", "exited"},
		{"__complete run --ipc=sh", "shareable", "host"},
	} {
		args := strings.Split(c.args, " ")
		r := cli(t, e, args...)
		if !strings.Contains(r.out, c.want) || strings.Contains(r.out, c.not) {
			t.Errorf("%s: %q", c.args, r.out)
		}
	}
}

func BenchmarkBuildRun(b *testing.B) {
	for b.Loop() {
		a := &app{}
		root := a.root()
		if err := a.fill(root, commandTree(), []string{"run", "img"}, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuildPs(b *testing.B) {
	for b.Loop() {
		a := &app{}
		root := a.root()
		if err := a.fill(root, commandTree(), []string{"ps"}, false); err != nil {
			b.Fatal(err)
		}
	}
}
