package cli

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s", file, got)
	}
}

var testNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// testContainers are one of each sort.
func testContainers() []engine.Container {
	at := func(ago time.Duration) time.Time { return testNow.Add(-ago) }
	image := cove.ImageConfig{ID: strings.Repeat("1f", 32), Name: "quay.io/lib/web:1", Cmd: []string{"httpd", "-f"}, ExposedPorts: []string{"80/tcp", "90/udp", "91/udp"}, Labels: map[string]string{"who": "image"}}
	web := engine.Container{Container: cove.Container{
		ID: strings.Repeat("a1", 32), Name: "web", Created: at(3 * time.Hour), Image: image,
		Spec: cove.ContainerSpec{Image: "web:1", Labels: map[string]string{"tier": "front"}, Health: &cove.HealthCheck{Test: []string{"CMD", "true"}},
			Ports: []cove.PortMapping{{ContainerPort: 80, HostPort: 8080, Range: 1, Protocol: "tcp"}}},
		Ports:       []cove.PortMapping{{ContainerPort: 80, HostPort: 8080, Range: 1, Protocol: "tcp"}},
		Mounts:      []cove.Mount{{Type: "volume", Source: "data", Destination: "/v"}, {Type: "bind", Source: "/etc", Destination: "/host", Options: []string{"ro"}}, {Type: "tmpfs", Destination: "/t", Options: []string{"size=1m"}}},
		Attachments: []cove.NetworkAttachment{{Network: "podman", MAC: "92:d0:c6:0a:29:33", Addresses: []netip.Prefix{netip.MustParsePrefix("10.88.0.5/16")}, Gateways: []netip.Addr{netip.MustParseAddr("10.88.0.1")}}},
		Run:         cove.Run{PID: 4242, MonitorPID: 4240, Started: at(2 * time.Minute), Health: &cove.Health{Status: "healthy"}},
		CommandLine: []string{"cove", "run", "web:1"},
	}, Status: cove.Running, SizeRw: 2048, SizeRootFs: 5 << 20}
	done := engine.Container{Container: cove.Container{
		ID: strings.Repeat("b2", 32), Name: "done", Created: at(48 * time.Hour), Image: image,
		Spec: cove.ContainerSpec{Image: "web:1", Command: []string{"sh", "-c", "sleep 1000; exit 3"}, Network: "host"},
		Run:  cove.Run{Started: at(47 * time.Hour), Finished: at(5 * time.Second), ExitCode: 3},
	}, Status: cove.Exited, SizeRw: 0, SizeRootFs: 5 << 20}
	fresh := engine.Container{Container: cove.Container{
		ID: strings.Repeat("c3", 32), Name: "fresh", Created: at(time.Minute),
		Spec: cove.ContainerSpec{Rootfs: "/srv/root", Command: []string{"true"}},
	}, Status: cove.Created}
	paused := web
	paused.ID, paused.Name, paused.Status, paused.Created = strings.Repeat("d4", 32), "paused", cove.Paused, at(2*time.Hour)
	paused.Ports, paused.Run.Health = []cove.PortMapping{{HostIP: "127.0.0.1", ContainerPort: 2000, HostPort: 1000, Range: 3, Protocol: "tcp"}}, nil
	return []engine.Container{fresh, web, done, paused}
}

func TestPsOutput(t *testing.T) {
	for _, c := range []struct {
		name string
		o    psOptions
	}{
		{"ps.txt", psOptions{}},
		{"ps-notrunc.txt", psOptions{noTrunc: true}},
		{"ps-size.txt", psOptions{size: true, sort: choice{value: "names"}}},
		{"ps-noheading.txt", psOptions{noHeading: true}},
		{"ps-quiet.txt", psOptions{quiet: true}},
		{"ps-json.txt", psOptions{format: "json"}},
		{"ps-table.txt", psOptions{format: `table {{.ID}}\t{{.Names}}\t{{.Label "tier"}}\t{{.ExitCode}}\t{{.RunningFor}}\t{{.ImageID}}`}},
		{"ps-plain.txt", psOptions{format: `{{.Names}}|{{.State}}|{{.Status}}|{{.Pid}}|{{.Networks}}|{{.Mounts}}|{{.Labels}}|{{json .Names}}|{{upper .Image}}`}},
		{"ps-createdat.txt", psOptions{format: "{{.CreatedAt}} {{.Restarts}} {{.Pod}}{{.PodName}} {{.StartedAt}} {{.Exited}}"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			c.o.app = &app{Stdio: Stdio{Out: &out}}
			if err := c.o.show(testContainers(), testNow); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name, out.String())
		})
	}
}

func TestPsBadTemplate(t *testing.T) {
	e := &fakeContainers{list: func(engine.ListOptions) ([]engine.Container, error) { return testContainers(), nil }}
	for _, f := range []string{"{{.Nope}}", "{{", "table {{.ID | nope}}"} {
		if r := cli(t, e, "ps", "--format", f); r.code != 125 || r.err == "" {
			t.Errorf("%s: %+v", f, r)
		}
	}
}

func TestPsRequest(t *testing.T) {
	var got engine.ListOptions
	e := &fakeContainers{list: func(o engine.ListOptions) ([]engine.Container, error) { got = o; return nil, nil }}
	for _, c := range []struct {
		args string
		want func(engine.ListOptions) bool
	}{
		{"ps", func(o engine.ListOptions) bool { return !o.All && !o.Size && o.Last == 0 }},
		{"ps -a", func(o engine.ListOptions) bool { return o.All }},
		{"ps -n 3", func(o engine.ListOptions) bool { return o.All && o.Last == 3 }},
		{"ps -l", func(o engine.ListOptions) bool { return o.All && o.Latest }},
		{"ps -s", func(o engine.ListOptions) bool { return o.Size }},
		{"ps --filter status=exited -f label=a=b -f label=c", func(o engine.ListOptions) bool {
			return o.All && len(o.Filters["label"]) == 2 && o.Filters["label"][0] == "a=b"
		}},
	} {
		if r := cli(t, e, strings.Fields(c.args)...); r.code != 0 || !c.want(got) {
			t.Errorf("%s: %+v %+v", c.args, got, r)
		}
	}
}

func TestInspectOutput(t *testing.T) {
	e := &fakeContainers{known: map[string]engine.Container{"web": testContainers()[1], "done": testContainers()[2]}}
	r := cli(t, e, "container", "inspect", "web")
	golden(t, "inspect.txt", r.out)
	if r = cli(t, e, "container", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.HostConfig.NetworkMode}} {{.ID}} {{.Config.Cmd}}", "done"); r.out != "exited 3 host "+strings.Repeat("b2", 32)+" [sh -c sleep 1000; exit 3]\n" {
		t.Errorf("%+v", r)
	}
	if r = cli(t, e, "container", "inspect", "-f", `{{.Id}} {{(index .NetworkSettings.Ports "80/tcp" 0).HostIp}} {{.HostConfig.NanoCpus}}`, "web"); r.out != strings.Repeat("a1", 32)+" 0.0.0.0 0\n" {
		t.Errorf("%+v", r)
	}
	if r = cli(t, e, "container", "inspect", "-f", "{{.Nope}}", "web"); r.code != 125 || r.out != "" || !strings.Contains(r.err, "Nope") {
		t.Errorf("%+v", r)
	}
	r = cli(t, e, "container", "inspect", "done", "nosuch")
	if r.code != 125 || !strings.HasPrefix(r.out, "[\n") || r.err != "Error: no such container nosuch\n" {
		t.Errorf("%+v", r)
	}
	if r = cli(t, e, "container", "inspect", "nosuch"); r.out != "[]\n" {
		t.Errorf("%+v", r)
	}
}

func TestPort(t *testing.T) {
	e := &fakeContainers{known: map[string]engine.Container{"web": testContainers()[1], "p": testContainers()[3]}}
	for _, c := range []struct {
		args string
		code int
		out  string
	}{
		{"port web", 0, "80/tcp -> 0.0.0.0:8080\n"},
		{"port web 80", 0, "0.0.0.0:8080\n"},
		{"port web 80/udp", 125, ""},
		{"port p 2001/tcp", 0, "127.0.0.1:1001\n"},
		{"port nosuch", 125, ""},
	} {
		if r := cli(t, e, strings.Fields(c.args)...); r.code != c.code || r.out != c.out {
			t.Errorf("%s: %+v", c.args, r)
		}
	}
}

func TestStatsOutput(t *testing.T) {
	e := &fakeContainers{stats: func([]string, bool) ([]engine.Stats, error) {
		return []engine.Stats{{
			ID: strings.Repeat("a1", 32), Name: "web", At: testNow, Started: testNow.Add(-100 * time.Second), CPUNano: 5e9,
			MemUsage: 10e6, MemLimit: 100e6, NetIn: 1500, NetOut: 0, BlockIn: 2048, BlockOut: 10, PIDs: 3,
		}}, nil
	}}
	golden(t, "stats.txt", cli(t, e, "stats", "--no-stream").out)
	golden(t, "stats-json.txt", cli(t, e, "stats", "--no-stream", "--format", "json").out)
	golden(t, "stats-format.txt", cli(t, e, "stats", "--no-stream", "--no-trunc", "--format", "table {{.ID}} {{.MemUsageBytes}} {{.UpTime}}").out)
}

func TestLogs(t *testing.T) {
	e := &fakeContainers{
		known: map[string]engine.Container{"web": testContainers()[1], "done": testContainers()[2]},
		logs: func(_ string, o engine.LogOptions, each func(engine.LogLine) error) error {
			for _, l := range []engine.LogLine{
				{Time: testNow, Stream: "stdout", Text: []byte("one"), Partial: false}, {Time: testNow, Stream: "stderr", Text: []byte("bad"), Partial: false},
				{Time: testNow, Stream: "stdout", Text: []byte("par"), Partial: true}, {Time: testNow, Stream: "stdout", Text: []byte("tial"), Partial: false},
			} {
				if err := each(l); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for _, c := range []struct{ args, out, err string }{
		{"logs web", "one\npartial\n", "bad\n"},
		{"logs -t web", "2026-03-04T12:00:00.000000000Z one\n2026-03-04T12:00:00.000000000Z partial\n", "2026-03-04T12:00:00.000000000Z bad\n"},
		{"logs -n web", "one\npartial\n", "bad\n"}, // of several only
		{"logs --color web", "\x1b[37mone\x1b[0m\n\x1b[37mpar\x1b[0m\x1b[37mtial\x1b[0m\n", "\x1b[37mbad\x1b[0m\n"},
		{"logs -n web done", "web one\nweb partial\ndone one\ndone partial\n", "web bad\ndone bad\n"},
		{"logs web done", "a1a1a1a1a1a1 one\na1a1a1a1a1a1 partial\nb2b2b2b2b2b2 one\nb2b2b2b2b2b2 partial\n", "a1a1a1a1a1a1 bad\nb2b2b2b2b2b2 bad\n"},
	} {
		if r := cli(t, e, strings.Fields(c.args)...); r.out != c.out || r.err != c.err {
			t.Errorf("%s: %+v", c.args, r)
		}
	}
}
