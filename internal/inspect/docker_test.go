package inspect

import (
	"strings"
	"testing"
	"text/template"

	"github.com/cove-engine/cove"
)

// Templates that docker's users write.
func TestDockerNames(t *testing.T) {
	info := Info{Version: Version{Version: "1", OsArch: "linux/arm64"}, Host: HostInfo{CgroupManager: "systemd", CgroupsVersion: "v2", CPUs: 3, OS: "linux"}}
	for _, c := range []struct {
		template string
		of       any
		want     string
	}{
		{"{{.LogPath}}", Container(cove.Container{}, Facts{LogPath: "/ctr.log"}), "/ctr.log"},
		{"{{.ServerVersion}} {{.CgroupDriver}} {{.CgroupVersion}} {{.NCPU}} {{.OSType}}", &info, "1 systemd 2 3 linux"},
		{"{{.Driver}}{{.DockerRootDir}}{{.LoggingDriver}}{{.KernelVersion}}{{.Name}} {{.MemTotal}} {{.Containers}} {{.Images}}", &info, " 0 0 0"},
		{"{{.Arch}}", &info.Version, "arm64"},
	} {
		var out strings.Builder
		if err := template.Must(template.New("").Parse(c.template)).Execute(&out, c.of); err != nil || out.String() != c.want {
			t.Errorf("%s: %q, %v; want %q", c.template, out.String(), err, c.want)
		}
	}
}
