package test

import (
	"archive/tar"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cove-engine/cove/internal/image/imagetest"
)

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// makeImages writes the archives that scripts load:
//
//	bb.tar      localhost/bb: busybox with every applet, users root, nobody and web
//	strange.tar localhost/strange: bb with fields that say nothing
//	hasty.tar   localhost/hasty: bb with ports by podman's own rules, and a check that never rests
//	noport.tar  localhost/noport: bb with a port that there is not
//	devlink.tar localhost/devlink: bb with a link in place of /dev
//	svc.tar     localhost/svc: bb with every field of the configuration set
//	odd.tar     localhost/odd: bb below a layer with overlay's own attributes and others
//	escape.tar  localhost/escape: a bad layer with an escape sequence in a name
//	broken.tar  an archive that is cut off
//	oci/        localhost/oci as an OCI layout; damaged/ the same with one layer altered
func makeImages(t *testing.T, dir string) string {
	t.Helper()
	// podman makes names of this path: only lower case will do.
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := imagetest.Busybox(t)
	applets, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for a := range strings.FieldsSeq(string(applets)) {
		if a != "busybox" {
			files["bin/"+a] = "-> busybox"
		}
	}
	maps.Copy(files, imagetest.Files{
		"etc/passwd":  "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/home/web:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"etc/group":   "root:x:0:\nstaff:x:50:web\nweb:x:1000:\nnogroup:x:65534:\n",
		"home/web/":   "",
		"data/":       "",
		"data/hello":  "hello from the image\n",
		"run/":        "",
		"var/tmp/":    "",
		"etc/os-like": "bb\n",
	})
	base := imagetest.Layer(t, files)
	bb := imagetest.Image{Name: "localhost/bb:latest", Layers: [][]byte{base}, Env: []string{path}, Cmd: []string{"/bin/sh"}}
	top := imagetest.Layer(t, imagetest.Files{
		"srv/":      "",
		"srv/index": "served\n",
		"bin/serve": "#!/bin/sh\n# answers every connection to port 80 with its argument\nwhile :; do echo \"$1\" | nc -l -p 80; done\n",
		"bin/entry": "#!/bin/sh\necho entry \"$@\"\n",
		"data/more": "more\n",
	})
	svc := imagetest.Image{
		Name: "localhost/svc:latest", Layers: [][]byte{base, top}, Env: []string{path, "COLOUR=blue"},
		Entrypoint: []string{"/bin/entry"}, Cmd: []string{"one", "two"}, User: "web", WorkDir: "/srv",
		Volumes: []string{"/data"}, Ports: []string{"80/tcp", "53/udp"}, Labels: map[string]string{"maker": "tests"}, StopSignal: "SIGINT",
		Healthcheck: json.RawMessage(`{"Test":["CMD-SHELL","test -e /tmp/well"],"Interval":1000000000,"Timeout":3000000000,"Retries":2}`),
	}
	put := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	archive := imagetest.DockerArchive(t, bb)
	put("bb.tar", archive)
	put("svc.tar", imagetest.DockerArchive(t, svc))
	put("strange.tar", imagetest.DockerArchive(t, imagetest.Image{
		Name: "localhost/strange:latest", Layers: [][]byte{base}, Env: []string{path}, User: ":::", Volumes: []string{""}, StopSignal: "-9",
		Healthcheck: json.RawMessage(`{"Test":["CMD"]}`), Cmd: []string{"id", "-u"},
	}))
	put("hasty.tar", imagetest.DockerArchive(t, imagetest.Image{
		Name: "localhost/hasty:latest", Layers: [][]byte{base}, Env: []string{path}, Ports: []string{"80-81/TCP,udp", "90/"},
		Healthcheck: json.RawMessage(`{"Test":["CMD","true"],"Interval":1,"Timeout":-1,"StartPeriod":1}`),
	}))
	put("noport.tar", imagetest.DockerArchive(t, imagetest.Image{Name: "localhost/noport:latest", Layers: [][]byte{base}, Ports: []string{"99999/tcp"}}))
	put("devlink.tar", imagetest.DockerArchive(t, imagetest.Image{
		Name: "localhost/devlink:latest", Layers: [][]byte{base, imagetest.Layer(t, imagetest.Files{"dev": "-> /etc"})}, Env: []string{path},
	}))
	put("odd.tar", imagetest.DockerArchive(t, imagetest.Image{
		Name: "localhost/odd:latest", Layers: [][]byte{base, oddLayer(t)}, Env: []string{path}, Volumes: []string{"relative"}, Cmd: []string{"cat", "\x1b[2J"},
	}))
	put("escape.tar", imagetest.DockerArchive(t, imagetest.Image{
		Name: "localhost/escape:latest", Layers: [][]byte{base, imagetest.Tar(t, []*tar.Header{{Name: "evil\x1b[2J", Typeflag: tar.TypeReg}, {Name: "evil\x1b[2J/x"}}, nil)},
	}))
	put("broken.tar", archive[:len(archive)/2])
	put("base.tar", base)
	oci := bb
	oci.Name = "localhost/oci:latest"
	oci.Layers = append(oci.Layers, imagetest.Layer(t, imagetest.Files{"etc/marker": "oci\n"}))
	imagetest.OCILayout(t, filepath.Join(dir, "oci"), oci)
	blobs := imagetest.OCILayout(t, filepath.Join(dir, "damaged"), oci)
	last := blobs[len(blobs)-1]
	data, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0xff
	if err := os.WriteFile(last, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// oddLayer has what a layer should not have, and what it may have and seldom has.
func oddLayer(t *testing.T) []byte {
	attribute := func(name, value string) map[string]string {
		return map[string]string{"SCHILY.xattr." + name: value}
	}
	return imagetest.Tar(t, []*tar.Header{
		{Name: "home/", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: attribute("trusted.overlay.redirect", "/etc")},
		{Name: "root/", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: attribute("user.overlay.redirect", "/etc")},
		{Name: "data/hello", Typeflag: tar.TypeChar}, // 0:0 is a whiteout
		{Name: "bin/as-web", Typeflag: tar.TypeReg, Mode: 0o6755, Uid: 1000, Gid: 1000},
		{Name: "bin/capable", Typeflag: tar.TypeReg, Mode: 0o755, PAXRecords: attribute("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
	}, nil)
}
