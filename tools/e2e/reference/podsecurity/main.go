// Command podsecurity makes pods and prints, a line of JSON each, what upstream's pod security standards say of
// them at each level: the text from the version on that it changes with.
//
//	go run . > crates/admission/src/tests/pod_security.jsonl
package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Combinations of edits, beside each edit alone.
const combinations = 260

// Minor versions that are asked about, and after them the latest.
const minors = 38

type edit struct {
	path  string
	value string
}

type line struct {
	Pod map[string]any `json:"pod"`
	// Level to version to text.
	Said map[string][][2]string `json:"said"`
}

func edits() []edit {
	var all []edit
	add := func(path string, values ...string) {
		for _, v := range values {
			all = append(all, edit{path, v})
		}
	}
	for _, field := range []string{"hostNetwork", "hostPID", "hostIPC", "hostUsers"} {
		add("spec."+field, "true", "false")
	}
	add("spec.os", `{"name":"windows"}`, `{"name":"linux"}`)
	add("spec.securityContext.sysctls",
		`[{"name":"kernel.shm_rmid_forced","value":"0"}]`, `[{"name":"net.core.somaxconn","value":"1"}]`,
		`[{"name":"net.ipv4.ip_local_reserved_ports","value":"1"}]`, `[{"name":"net.ipv4.tcp_keepalive_time","value":"1"}]`,
		`[{"name":"net.ipv4.tcp_rmem","value":"1"},{"name":"net.ipv4.tcp_wmem","value":"1"}]`,
		`[{"name":"kernel.msgmax","value":"1"},{"name":"a.b","value":"1"}]`,
		`[{"name":"net.ipv4.ping_group_range","value":"1"},{"name":"net.ipv4.tcp_fin_timeout","value":"1"}]`)
	for _, at := range []string{"spec.securityContext", "spec.containers.0.securityContext", "spec.containers.1.securityContext",
		"spec.initContainers.0.securityContext", "spec.ephemeralContainers.0.securityContext"} {
		add(at+".runAsNonRoot", "true", "false")
		add(at+".runAsUser", "0", "1000")
		add(at+".seccompProfile", `{"type":"RuntimeDefault"}`, `{"type":"Localhost","localhostProfile":"x"}`, `{"type":"Unconfined"}`)
		add(at+".seLinuxOptions", `{"type":"container_t"}`, `{"type":"container_engine_t"}`, `{"type":"spc_t"}`,
			`{"user":"u"}`, `{"role":"r"}`, `{"level":"s0"}`, `{"type":"bad","user":"u","role":"r"}`)
		add(at+".appArmorProfile", `{"type":"RuntimeDefault"}`, `{"type":"Localhost","localhostProfile":"x"}`, `{"type":"Unconfined"}`)
		add(at+".windowsOptions", `{"hostProcess":true}`, `{"hostProcess":false}`)
		if at == "spec.securityContext" {
			continue
		}
		add(at+".privileged", "true", "false")
		add(at+".allowPrivilegeEscalation", "true", "false")
		add(at+".capabilities", `{"add":["CHOWN","KILL"]}`, `{"add":["NET_ADMIN","SYS_TIME"]}`, `{"add":["NET_RAW"],"drop":["ALL"]}`,
			`{"drop":["ALL"]}`, `{"add":["NET_BIND_SERVICE"],"drop":["ALL"]}`, `{"drop":["NET_RAW"]}`, `{"add":["ALL"]}`,
			`{"add":["FOO"],"drop":["ALL"]}`)
		add(at+".procMount", `"Default"`, `"Unmasked"`, `"Other"`)
		box := strings.TrimSuffix(at, ".securityContext")
		add(box+".ports", `[{"containerPort":80,"hostPort":80}]`, `[{"containerPort":80}]`,
			`[{"containerPort":1,"hostPort":8080},{"containerPort":2,"hostPort":443}]`)
		if strings.Contains(box, "ephemeral") {
			continue
		}
		for _, host := range []string{"1.2.3.4", "127.0.0.1", "::1", "localhost", ""} {
			h := strconv.Quote(host)
			add(box+".livenessProbe", `{"httpGet":{"port":1,"host":`+h+`}}`)
			add(box+".readinessProbe", `{"tcpSocket":{"port":1,"host":`+h+`}}`)
			add(box+".startupProbe", `{"httpGet":{"port":1,"host":`+h+`}}`)
			add(box+".lifecycle", `{"postStart":{"httpGet":{"port":1,"host":`+h+`}}}`, `{"preStop":{"tcpSocket":{"port":1,"host":`+h+`}}}`)
		}
	}
	apparmor := "metadata.annotations.container\\.apparmor\\.security\\.beta\\.kubernetes\\.io/"
	for _, name := range []string{"a", "b", "init", "none"} {
		add(apparmor+name, `"runtime/default"`, `"localhost/foo"`, `"unconfined"`, `""`)
	}
	add("metadata.annotations.seccomp\\.security\\.alpha\\.kubernetes\\.io/pod", `"unconfined"`, `"runtime/default"`, `"docker/default"`, `"localhost/x"`, `"bogus"`)
	for _, name := range []string{"a", "init"} {
		add("metadata.annotations.container\\.seccomp\\.security\\.alpha\\.kubernetes\\.io/"+name, `"unconfined"`, `"runtime/default"`, `"localhost/x"`)
	}
	var volumes []string
	for _, source := range []string{"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
		"hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd", "flexVolume", "cinder",
		"cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk", "portworxVolume",
		"scaleIO", "storageos", "image"} {
		v := fmt.Sprintf(`{"name":"v-%s","%s":{}}`, strings.ToLower(source), source)
		volumes = append(volumes, v)
		add("spec.volumes", "["+v+"]")
	}
	add("spec.volumes", "["+strings.Join(volumes, ",")+"]", `[{"name":"x","hostPath":{"path":"/"}},{"name":"y","hostPath":{"path":"/"}},{"name":"z","nfs":{}},{"name":"w","emptyDir":{}}]`)
	return all
}

func parsed(text string) any {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(text + ": " + err.Error())
	}
	return v
}

func plain() map[string]any {
	return parsed(`{"metadata":{},"spec":{"containers":[{"name":"a"},{"name":"b"}]}}`).(map[string]any)
}

// good fits the restricted level.
func good() map[string]any {
	c := `"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}`
	return parsed(`{"metadata":{},"spec":{"securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}},
		"initContainers":[{"name":"init",` + c + `}],"containers":[{"name":"a",` + c + `},{"name":"b",` + c + `}]}}`).(map[string]any)
}

// set puts a value at a path; a dot in a key is escaped, a number is an element's place.
func set(at any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	if n, err := strconv.Atoi(path[0]); err == nil {
		list, _ := at.([]any)
		for len(list) <= n {
			name := "init"
			if len(list) > 0 || path[len(path)-1] == "" {
				name = "x" + strconv.Itoa(len(list))
			}
			list = append(list, map[string]any{"name": name})
		}
		list[n] = set(list[n], path[1:], value)
		return list
	}
	object, _ := at.(map[string]any)
	if object == nil {
		object = map[string]any{}
	}
	object[path[0]] = set(object[path[0]], path[1:], value)
	return object
}

func apply(pod map[string]any, e edit) {
	path := strings.Split(strings.ReplaceAll(e.path, "\\.", "\x00"), ".")
	for i := range path {
		path[i] = strings.ReplaceAll(path[i], "\x00", ".")
	}
	set(pod, path, parsed(e.value))
	if list, ok := pod["spec"].(map[string]any)["ephemeralContainers"].([]any); ok {
		list[0].(map[string]any)["name"] = "debug"
	}
}

func main() {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(err)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	emit := func(pod map[string]any) {
		if err := out.Encode(judged(evaluator, pod)); err != nil {
			panic(err)
		}
	}
	all := edits()
	emit(plain())
	emit(good())
	for i, e := range all {
		pod := plain()
		if i%2 == 1 {
			pod = good()
		}
		apply(pod, e)
		emit(pod)
	}
	random := rand.New(rand.NewSource(37))
	for range combinations {
		pod := plain()
		if random.Intn(3) > 0 {
			pod = good()
		}
		for range 2 + random.Intn(4) {
			apply(pod, all[random.Intn(len(all))])
		}
		emit(pod)
	}
}

func judged(evaluator policy.Evaluator, pod map[string]any) line {
	text, err := json.Marshal(pod)
	if err != nil {
		panic(err)
	}
	var typed corev1.Pod
	if err := json.Unmarshal(text, &typed); err != nil {
		panic(string(text) + ": " + err.Error())
	}
	said := map[string][][2]string{}
	for _, level := range []api.Level{api.LevelBaseline, api.LevelRestricted} {
		for minor := 0; minor <= minors; minor++ {
			version := api.MajorMinorVersion(1, minor)
			if minor == minors {
				version = api.LatestVersion()
			}
			results := evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: version}, &typed.ObjectMeta, &typed.Spec)
			aggregate := policy.AggregateCheckResults(results)
			now := ""
			if !aggregate.Allowed {
				now = aggregate.ForbiddenDetail()
			}
			before := said[string(level)]
			if len(before) == 0 || before[len(before)-1][1] != now {
				said[string(level)] = append(before, [2]string{version.String(), now})
			}
		}
	}
	return line{pod, said}
}
