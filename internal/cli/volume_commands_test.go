package cli

import (
	"errors"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/inspect"
)

func twoVolumes() *objectsEngine {
	at := time.Date(2026, 11, 23, 23, 4, 39, 498450538, time.UTC)
	return &objectsEngine{
		volumes: []inspect.Volume{
			inspect.NewVolume(cove.Volume{Name: "data", Driver: "local", Created: at}, "/g/volumes/data/_data"),
			inspect.NewVolume(cove.Volume{Name: "v1", Driver: "local", Created: at, NeedsCopyUp: true,
				Labels: map[string]string{"a": "b"}, Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}}, "/g/volumes/v1/_data"),
		},
		fail: map[string]error{"busy": cove.E("remove volume", "busy", cove.InUse, errors.New("used by c1"))},
	}
}

const volumeV1 = `[
     {
          "Name": "v1",
          "Driver": "local",
          "Mountpoint": "/g/volumes/v1/_data",
          "CreatedAt": "2026-11-23T23:04:39.498450538Z",
          "Labels": {
               "a": "b"
          },
          "Scope": "local",
          "Options": {
               "device": "tmpfs",
               "type": "tmpfs"
          },
          "MountCount": 0,
          "NeedsCopyUp": true,
          "NeedsChown": true,
          "LockNumber": 0
     }
]
`

func TestVolumeCommands(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		stdin string
		code  int
		out   string
		err   string
		calls []string
	}{
		{name: "create", args: []string{"create", "-l", "a=b", "--label", "c", "-o", "type=tmpfs", "v9"}, out: "v9\n",
			calls: []string{"create volume v9 local map[a:b c:] map[type:tmpfs] false"}},
		{name: "create flags after name", args: []string{"create", "v9", "--driver", "x", "--ignore"}, out: "v9\n",
			calls: []string{"create volume v9 x map[] map[] true"}},
		{name: "create two", args: []string{"create", "a", "b"}, code: 125, err: "accepts at most 1 arg(s), received 2"},
		{name: "ls", args: []string{"ls"}, out: "DRIVER      VOLUME NAME\nlocal       data\nlocal       v1\n", calls: []string{"volumes "}},
		{name: "list is ls", args: []string{"list", "-n"}, out: "local       data\nlocal       v1\n", calls: []string{"volumes "}},
		{name: "ls -q", args: []string{"ls", "-q", "-f", "label=a=b", "-f", "label=c", "--filter", "dangling=true"}, out: "data\nv1\n",
			calls: []string{"volumes dangling=true label=a=b|c"}},
		{name: "ls template", args: []string{"ls", "--format", "{{.Name}} {{.Driver}} {{.Mountpoint}} {{.Labels}} {{.Scope}}"},
			out: "data local /g/volumes/data/_data map[] local\nv1 local /g/volumes/v1/_data map[a:b] local\n", calls: []string{"volumes "}},
		{name: "ls -q json", args: []string{"ls", "-q", "--format", "json"}, code: 125, err: "quiet and format flags cannot be used together"},
		{name: "ls filter", args: []string{"ls", "-f", "foo=1"}, code: 125, err: `"foo" is an invalid volume filter`},
		{name: "ls arguments", args: []string{"ls", "x"}, code: 125, err: "`cove volume ls` takes no arguments"},
		{name: "inspect", args: []string{"inspect", "v1"}, out: volumeV1},
		{name: "inspect one missing", args: []string{"inspect", "v1", "zz"}, code: 125, out: volumeV1, err: "Error: inspect volume zz: no such object\n"},
		{name: "inspect missing", args: []string{"inspect", "zz"}, code: 125, out: "[]\n", err: "zz"},
		{name: "inspect all", args: []string{"inspect", "-a", "--format", "{{.Name}} {{.Options.type}}"}, out: "data <no value>\nv1 tmpfs\n", calls: []string{"volumes "}},
		{name: "inspect none", args: []string{"inspect"}, code: 125, err: "provide one or more volume names or use --all"},
		{name: "exists", args: []string{"exists", "v1"}},
		{name: "not exists", args: []string{"exists", "zz"}, code: 1},
		{name: "rm", args: []string{"rm", "v1", "data"}, out: "v1\ndata\n", calls: []string{"rm volume v1 false -", "rm volume data false -"}},
		{name: "rm missing", args: []string{"rm", "zz", "v1"}, code: 1, out: "v1\n", err: "zz", calls: []string{"rm volume zz false -", "rm volume v1 false -"}},
		{name: "rm -f missing", args: []string{"rm", "-f", "-t", "3", "zz"}, calls: []string{"rm volume zz true 3"}},
		{name: "rm in use", args: []string{"rm", "zz", "busy"}, code: 2, err: "used by c1", calls: []string{"rm volume zz false -", "rm volume busy false -"}},
		{name: "rm -a", args: []string{"rm", "-a"}, out: "data\nv1\n", calls: []string{"volumes ", "rm volume data false -", "rm volume v1 false -"}},
		{name: "rm nothing", args: []string{"rm"}, code: 125, err: "choose either one or more volumes or all"},
		{name: "rm both", args: []string{"rm", "-a", "v1"}, code: 125, err: "choose either one or more volumes or all"},
		{name: "prune -f", args: []string{"prune", "-f", "--filter", "label!=x"}, out: "data\nv1\n", calls: []string{"prune volumes label!=x"}},
		{name: "prune yes", args: []string{"prune"}, stdin: "Y\n",
			out: "WARNING! This will remove all volumes not used by at least one container. The following volumes will be removed:\ndata\nv1\n" +
				"Are you sure you want to continue? [y/N] data\nv1\n",
			calls: []string{"volumes dangling=true", "prune volumes "}},
		{name: "prune no", args: []string{"prune"}, stdin: "no",
			out: "WARNING! This will remove all volumes not used by at least one container. The following volumes will be removed:\ndata\nv1\n" +
				"Are you sure you want to continue? [y/N] ",
			calls: []string{"volumes dangling=true"}},
		{name: "prune without answer", args: []string{"prune"}, code: 125, err: "EOF",
			out: "WARNING! This will remove all volumes not used by at least one container. The following volumes will be removed:\ndata\nv1\n" +
				"Are you sure you want to continue? [y/N] ",
			calls: []string{"volumes dangling=true"}},
		{name: "mount", args: []string{"rename", "v1", "v2"}, code: 125, err: "cove volume rename: not supported by cove yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := twoVolumes()
			e.on(t, c.stdin, append([]string{"volume"}, c.args...)...).want(t, c.code, c.out, c.err)
			e.wantCalls(t, c.calls...)
		})
	}
}

func TestVolumeListJSON(t *testing.T) {
	e := twoVolumes()
	e.volumes = e.volumes[:1]
	e.on(t, "", "volume", "ls", "--format", "json").want(t, 0, `[
  {
    "Name": "data",
    "Driver": "local",
    "Mountpoint": "/g/volumes/data/_data",
    "CreatedAt": "2026-11-23T23:04:39.498450538Z",
    "Labels": {},
    "Scope": "local",
    "Options": {},
    "MountCount": 0,
    "LockNumber": 0
  }
]
`, "")
	e.volumes = nil
	e.on(t, "", "volume", "ls", "--format", "json").want(t, 0, "[]\n", "")
	e.on(t, "", "volume", "prune").want(t, 0, "WARNING! This will remove all volumes not used by at least one container. The following volumes will be removed:\nNo dangling volumes found\n", "")
}
