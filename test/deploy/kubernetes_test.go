// Package deploy checks what other programs read: contrib/kubernetes, each file
// against the API's own types, in which nothing may be that they do not know,
// what the files say of each other, and the container's command line with the
// real program; and the Dockerfile, with BuildKit's own parser.
package deploy

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const folder = "../../contrib/kubernetes"

// load reads a file into the type that it is of.
func load[T any](t *testing.T, file, version, kind string) *T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	object := new(T)
	if err := yaml.UnmarshalStrict(text, object); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var of meta.TypeMeta
	if err := yaml.Unmarshal(text, &of); err != nil || of.APIVersion != version || of.Kind != kind {
		t.Fatalf("%s is %v, %v", file, of, err)
	}
	return object
}

func set(t *testing.T) *apps.StatefulSet {
	t.Helper()
	return load[apps.StatefulSet](t, "statefulset.yaml", "apps/v1", "StatefulSet")
}

// Every file is read by some test.
func TestAllFiles(t *testing.T) {
	t.Parallel()
	known := map[string]bool{
		"statefulset.yaml": true, "service.yaml": true, "poddisruptionbudget.yaml": true, "networkpolicy.yaml": true,
		"prometheus-operator/servicemonitor.yaml": true,
	}
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if name, _ := filepath.Rel(folder, path); err == nil && !d.IsDir() && !known[name] {
			t.Errorf("nothing tests %s", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A field that the API does not have is found.
func TestStrict(t *testing.T) {
	t.Parallel()
	if err := yaml.UnmarshalStrict([]byte("spec: {replica: 1}"), new(apps.StatefulSet)); err == nil {
		t.Error("what is no field is taken")
	}
}

func TestOneServer(t *testing.T) {
	t.Parallel()
	d := set(t)
	if *d.Spec.Replicas != 1 || d.Spec.UpdateStrategy.Type == apps.OnDeleteStatefulSetStrategyType || d.Spec.PodManagementPolicy != apps.ParallelPodManagement {
		t.Errorf("%d replicas, %v, %s", *d.Spec.Replicas, d.Spec.UpdateStrategy, d.Spec.PodManagementPolicy)
	}
}

// The state file outlives the pod, in a volume that one pod at a time has, and that the
// image's user may write to; and it is never made in the place of one that was lost.
func TestState(t *testing.T) {
	t.Parallel()
	d := set(t)
	spec := d.Spec.Template.Spec
	if len(d.Spec.VolumeClaimTemplates) != 1 {
		t.Fatalf("%+v", d.Spec.VolumeClaimTemplates)
	}
	claim := d.Spec.VolumeClaimTemplates[0]
	if modes := claim.Spec.AccessModes; len(modes) != 1 || modes[0] != core.ReadWriteOncePod || claim.Spec.Resources.Requests.Storage().IsZero() {
		t.Errorf("%+v", claim.Spec)
	}
	if p := d.Spec.PersistentVolumeClaimRetentionPolicy; p != nil && (p.WhenDeleted == apps.DeletePersistentVolumeClaimRetentionPolicyType || p.WhenScaled == apps.DeletePersistentVolumeClaimRetentionPolicyType) {
		t.Errorf("the state file goes: %+v", p)
	}
	file := ""
	for _, arg := range spec.Containers[0].Args {
		if value, ok := strings.CutPrefix(arg, "--state="); ok {
			file = value
		}
	}
	mounted := false
	for _, m := range spec.Containers[0].VolumeMounts {
		mounted = mounted || m.Name == claim.Name && m.MountPath == filepath.Dir(file) && !m.ReadOnly && m.SubPath == ""
	}
	if c := spec.SecurityContext; !mounted || *c.FSGroup != *c.RunAsGroup || *c.FSGroupChangePolicy != core.FSGroupChangeOnRootMismatch {
		t.Errorf("%q is in none of %+v, for %+v", file, spec.Containers[0].VolumeMounts, c)
	}
	if len(spec.InitContainers) > 0 {
		t.Errorf("something runs before each start, when a state file may be missing that was lost: %+v", spec.InitContainers)
	}
}

// What Kubernetes' own standard for pods calls restricted.
func TestRestricted(t *testing.T) {
	t.Parallel()
	spec := set(t).Spec.Template.Spec
	if c := spec.SecurityContext; !*c.RunAsNonRoot || *c.RunAsUser == 0 || c.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%+v", c)
	}
	if *spec.AutomountServiceAccountToken || *spec.EnableServiceLinks || spec.HostNetwork || spec.HostPID {
		t.Error("it has what it does not need")
	}
	for _, c := range spec.Containers {
		s := c.SecurityContext
		if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" || s.Capabilities.Add != nil {
			t.Errorf("%+v", s)
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("%+v", c.Resources)
		}
	}
	recipe, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^USER 65532:65532$`).Match(recipe) || *spec.SecurityContext.RunAsUser != 65532 {
		t.Error("the user is not the image's")
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../pkg/server/version.go")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`const Version = "(.*)"`).FindSubmatch(text)
	if image := set(t).Spec.Template.Spec.Containers[0].Image; image != "lockd:"+string(version[1]) {
		t.Errorf("the image is %s, the version %s", image, version[1])
	}
}

// Each file means the same pod and the same ports.
func TestReferences(t *testing.T) {
	t.Parallel()
	d := set(t)
	pod := labels.Set(d.Spec.Template.Labels)
	ports := map[string]int32{}
	for _, p := range d.Spec.Template.Spec.Containers[0].Ports {
		ports[p.Name] = p.ContainerPort
	}
	selects := func(what string, s *meta.LabelSelector, set labels.Set) {
		t.Helper()
		selector, err := meta.LabelSelectorAsSelector(s)
		if err != nil || selector.Empty() || !selector.Matches(set) {
			t.Errorf("%s does not select %v, %v", what, set, err)
		}
	}
	named := func(what string, port intstr.IntOrString) {
		t.Helper()
		if ports[port.StrVal] == 0 {
			t.Errorf("%s: the container has no port %q", what, port.StrVal)
		}
	}
	selects("the StatefulSet", d.Spec.Selector, pod)

	service := load[core.Service](t, "service.yaml", "v1", "Service")
	selects("the Service", &meta.LabelSelector{MatchLabels: service.Spec.Selector}, pod)
	offered := map[string]bool{}
	for _, p := range service.Spec.Ports {
		named("the Service", p.TargetPort)
		offered[p.Name] = true
		if p.Port != ports[p.Name] {
			t.Errorf("the Service's port %s is %d", p.Name, p.Port)
		}
	}
	budget := load[policy.PodDisruptionBudget](t, "poddisruptionbudget.yaml", "policy/v1", "PodDisruptionBudget")
	selects("the PodDisruptionBudget", budget.Spec.Selector, pod)
	if budget.Spec.MinAvailable.IntValue() != 1 {
		t.Errorf("%v may be missing", budget.Spec)
	}
	network := load[networking.NetworkPolicy](t, "networkpolicy.yaml", "networking.k8s.io/v1", "NetworkPolicy")
	selects("the NetworkPolicy", &network.Spec.PodSelector, pod)
	if len(network.Spec.Ingress) != 2 || len(network.Spec.PolicyTypes) != 2 || len(network.Spec.Egress) != 0 {
		t.Errorf("%+v", network.Spec)
	}
	for _, rule := range network.Spec.Ingress {
		if len(rule.From) == 0 || len(rule.Ports) != 1 {
			t.Errorf("everybody may: %+v", rule)
		}
		named("the NetworkPolicy", *rule.Ports[0].Port)
	}
	monitor := load[monitoring.ServiceMonitor](t, "prometheus-operator/servicemonitor.yaml", "monitoring.coreos.com/v1", "ServiceMonitor")
	selects("the ServiceMonitor", &monitor.Spec.Selector, labels.Set(service.Labels))
	for _, e := range monitor.Spec.Endpoints {
		if !offered[e.Port] || e.Path != "/metrics" {
			t.Errorf("%+v", e)
		}
	}
	c := d.Spec.Template.Spec.Containers[0]
	for _, probe := range []*core.Probe{c.ReadinessProbe, c.LivenessProbe} {
		named("a probe", probe.HTTPGet.Port)
	}
	for _, m := range c.VolumeMounts {
		found := false
		for _, v := range d.Spec.Template.Spec.Volumes {
			found = found || v.Name == m.Name
		}
		for _, v := range d.Spec.VolumeClaimTemplates {
			found = found || v.Name == m.Name
		}
		if !found || !m.ReadOnly && m.Name != "state" {
			t.Errorf("%+v", m)
		}
	}
}

// program builds lockd.
func program(t *testing.T, dir string) string {
	t.Helper()
	lockd := filepath.Join(dir, "lockd")
	build := exec.Command("go", "build", "-o", lockd, "./cmd/lockd")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lockd
}

// The proxy beside a program, as docs/deploying.md has it: a sidecar, whose arguments the
// real one takes, before a server with an auth file.
func TestSidecar(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/deploying.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^    spec:\n(?:^     .*\n)+`).FindAll(text, -1)
	if len(shown) != 1 {
		t.Fatalf("%d pods are shown", len(shown))
	}
	var pod struct{ Spec core.PodSpec }
	if err := yaml.UnmarshalStrict(shown[0], &pod); err != nil {
		t.Fatal(err)
	}
	c := pod.Spec.InitContainers[0]
	if c.RestartPolicy == nil || *c.RestartPolicy != core.ContainerRestartPolicyAlways || strings.Join(c.StartupProbe.Exec.Command, " ") != "/lockd ping" {
		t.Errorf("%+v", c)
	}
	if c.VolumeMounts[0].Name != pod.Spec.Volumes[0].Name || *pod.Spec.SecurityContext.FSGroup != 65532 {
		t.Errorf("%+v, %+v", pod.Spec.Volumes, pod.Spec.SecurityContext)
	}

	dir := t.TempDir()
	lockd := program(t, dir)
	auth, token := filepath.Join(dir, "auth"), filepath.Join(dir, "token")
	out, err := exec.Command(lockd, "token", "add", "web", "--role", "lock", "--auth-file", auth).Output()
	if err == nil {
		err = os.WriteFile(token, out, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	start := func(args ...string) (addr string) {
		t.Helper()
		cmd := exec.Command(lockd, append(args, "--tcp=127.0.0.1:0")...)
		stderr, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		in := bufio.NewReader(stderr)
		t.Cleanup(func() {
			timer.Stop()
			cmd.Process.Signal(syscall.SIGTERM)
			io.Copy(io.Discard, in)
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
		for said := ""; ; {
			line, err := in.ReadString('\n')
			if said += line; err != nil {
				t.Fatalf("it says %q, %v", said, err)
			}
			if _, rest, found := strings.Cut(line, " tcp="); found {
				return strings.Fields(rest)[0]
			}
		}
	}
	server := start("--admin=off", "--auth-file="+auth)
	var args []string
	for _, arg := range c.Args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "--server":
			if host, port, _ := strings.Cut(value, ":"); host != "lockd" || port != "9999" {
				t.Errorf("%s is not the Service", arg)
			}
			arg = name + "=" + server
		case "--token-file":
			if filepath.Dir(value) != c.VolumeMounts[0].MountPath {
				t.Errorf("%s is not where the Secret is", arg)
			}
			arg = name + "=" + token
		}
		args = append(args, arg)
	}
	proxy := start(args...)
	if out, err := exec.Command(lockd, "run", "-s", proxy, "a", "--", lockd, "inspect", "a", "-s", server, "--token-file", token).CombinedOutput(); err != nil || !strings.Contains(string(out), "exclusive: held") {
		t.Errorf("%v, %s", err, out)
	}
}

// The container's arguments, with the real program: it serves on the ports that
// the container names, its probes are answered without a token and its metrics
// with one, and it ends within the time that it is given.
// The container's arguments, with the real program: it serves on the ports that
// the container names, its probes are answered without a token and its metrics
// with one, and it ends within the time that it is given.
func TestServes(t *testing.T) {
	t.Parallel()
	spec := set(t).Spec.Template.Spec
	c := spec.Containers[0]
	dir := t.TempDir()
	lockd := program(t, dir)
	auth := filepath.Join(dir, "auth")
	token, err := exec.Command(lockd, "token", "add", "prometheus", "--role", "read", "--auth-file", auth).Output()
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	drain := time.Duration(0)
	for _, arg := range c.Args {
		name, value, ok := strings.Cut(arg, "=")
		switch name {
		case "--tcp", "--admin":
			port := map[string]string{"--tcp": "lockd", "--admin": "admin"}[name]
			found := false
			for _, p := range c.Ports {
				found = found || p.Name == port && value == strconv.Itoa(int(p.ContainerPort))
			}
			if !found {
				t.Errorf("%s is no port of the container", arg)
			}
			value = "127.0.0.1:0" // not the very one, which may be in use
		case "--auth-file":
			if filepath.Dir(value) != c.VolumeMounts[0].MountPath {
				t.Errorf("%s is not where the Secret is", arg)
			}
			value = auth
		case "--state":
			value = filepath.Join(dir, "state")
		case "--drain-delay", "--drain-timeout":
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Error(err)
			}
			drain += d
			value = "0s"
			if name == "--drain-timeout" {
				value = "1s"
			}
		}
		if !ok {
			t.Errorf("%s has no value", arg)
		}
		args = append(args, name+"="+value)
	}
	if grace := time.Duration(*spec.TerminationGracePeriodSeconds) * time.Second; drain == 0 || grace < drain+10*time.Second {
		t.Errorf("it is killed after %v, and needs %v and a little more", grace, drain)
	}
	cmd := exec.Command(lockd, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	in := bufio.NewReader(stderr)
	var first struct{ Msg, TCP, Admin, Why string }
	// An empty volume is a file that may have been lost. The pod is ready all the same.
	line, err := in.ReadString('\n')
	if err := json.Unmarshal([]byte(line), &first); err != nil || !strings.HasPrefix(first.Msg, "recovering") || !strings.Contains(first.Why, "no state file") {
		t.Errorf("with an empty volume it says %q, %v", line, err)
	}
	line, err = in.ReadString('\n')
	if err := json.Unmarshal([]byte(line), &first); err != nil || first.Msg != "listening" || first.Admin == "" {
		t.Fatalf("it says %q, %v", line, err)
	}
	ask := func(path, host, token string, want int) {
		t.Helper()
		r, err := http.NewRequest("GET", "http://"+first.Admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		if host != "" {
			r.Host = host
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
	ask(c.ReadinessProbe.HTTPGet.Path, "10.0.0.7:9997", "", 200) // as kubelet asks: by the pod's address
	ask(c.LivenessProbe.HTTPGet.Path, "10.0.0.7:9997", "", 200)
	ask("/metrics", "10.0.0.7:9997", strings.TrimSpace(string(token)), 200)
	cmd.Process.Signal(syscall.SIGTERM)
	io.Copy(io.Discard, in)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if out, err := exec.Command(lockd, "state", "show", filepath.Join(dir, "state")).CombinedOutput(); err != nil {
		t.Errorf("the state file: %v, %s", err, out)
	}
}
