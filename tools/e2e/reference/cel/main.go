// Command cel evaluates the expressions of a file in upstream's own environment and prints, a line of JSON each,
// what upstream makes of them: the version that knows them, type, value, message, run-time cost and estimate.
//
//	go run . < crates/celenv/tests/reference/expressions.txt > crates/celenv/tests/reference/verdicts.jsonl
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

type verdict struct {
	Expression string `json:"e"`
	// Lowest minor version in whose environment for new expressions it compiles.
	Since    *int      `json:"since,omitempty"`
	Type     string    `json:"type,omitempty"`
	Compile  string    `json:"compile,omitempty"`
	Value    string    `json:"value,omitempty"`
	Error    string    `json:"error,omitempty"`
	Cost     *uint64   `json:"cost,omitempty"`
	Estimate *[2]uint64 `json:"estimate,omitempty"`
}

// rules is the authorizer of the tables: it knows one user.
type rules struct{}

func (rules) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	switch {
	case a.GetResource() == "broken":
		return authorizer.DecisionNoOpinion, "", errors.New("is broken")
	case !a.IsResourceRequest() && a.GetPath() == "/healthz":
		return authorizer.DecisionAllow, "health", nil
	case a.GetResource() == "secrets":
		return authorizer.DecisionDeny, "never", nil
	case a.GetVerb() == "get" && a.GetResource() == "pods" && a.GetUser().GetName() == "u":
		return authorizer.DecisionAllow, "of " + a.GetNamespace() + "/" + a.GetName() + "/" + a.GetSubresource(), nil
	case a.GetUser().GetName() == "system:serviceaccount:default:robot":
		return authorizer.DecisionAllow, strings.Join(a.GetUser().GetGroups(), ","), nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func object() map[string]interface{} {
	return map[string]interface{}{
		"metadata": map[string]interface{}{"name": "a", "labels": map[string]interface{}{"x": "1"}},
		"spec": map[string]interface{}{
			"replicas": int64(5), "ratio": 0.5,
			"list":  []interface{}{int64(1), int64(2), int64(3)},
			"names": []interface{}{"b", "a"},
			"none":  nil, "text": "hello", "yes": true,
			"ports": []interface{}{
				map[string]interface{}{"name": "http", "port": int64(80)},
				map[string]interface{}{"name": "https", "port": int64(443)},
			},
		},
	}
}

func request() map[string]interface{} {
	pods := map[string]interface{}{"group": "", "version": "v1", "resource": "pods"}
	pod := map[string]interface{}{"group": "", "version": "v1", "kind": "Pod"}
	return map[string]interface{}{
		"operation": "CREATE", "name": "n", "namespace": "d", "dryRun": false,
		"resource": pods, "requestResource": pods, "kind": pod, "requestKind": pod,
		"userInfo": map[string]interface{}{"username": "u", "groups": []interface{}{"g", "h"}},
		"options":  map[string]interface{}{"kind": "CreateOptions"},
	}
}

// requested is what the variable authorizer.requestResource asks about.
type requested struct{}

func (requested) GetResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "pods"}
}
func (requested) GetSubresource() string { return "" }
func (requested) GetNamespace() string   { return "d" }
func (requested) GetName() string        { return "n" }

func mustTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

func environments(minor int) *environment.EnvSet {
	requestType, namespaceType := plugincel.BuildRequestType(), plugincel.BuildNamespaceType()
	set, err := environment.MustBaseEnvSet(version.MajorMinor(1, uint(minor))).Extend(
		environment.VersionedOptions{
			IntroducedVersion: version.MajorMinor(1, 0),
			EnvOptions: []cel.EnvOption{
				cel.Variable("object", cel.DynType),
				cel.Variable("request", requestType.CelType()),
				cel.Variable("namespaceObject", namespaceType.CelType()),
				cel.Variable("authorizer", library.AuthorizerType),
				cel.Variable("authorizer.requestResource", library.ResourceCheckType),
				cel.Variable("s", cel.StringType),
				cel.Variable("i", cel.IntType),
				cel.Variable("u", cel.UintType),
				cel.Variable("d", cel.DoubleType),
				cel.Variable("b", cel.BytesType),
				cel.Variable("l", cel.ListType(cel.IntType)),
				cel.Variable("names", cel.ListType(cel.StringType)),
				cel.Variable("m", cel.MapType(cel.StringType, cel.StringType)),
				cel.Variable("t", cel.TimestampType),
			},
			DeclTypes: []*apiservercel.DeclType{namespaceType, requestType},
		},
		environment.StrictCostOpt,
	)
	if err != nil {
		panic(err)
	}
	set, err = set.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions: []cel.EnvOption{
			common.ResolverEnvOption(&mutation.DynamicTypeResolver{}),
			environment.UnversionedLib(library.JSONPatch),
		},
	})
	if err != nil {
		panic(err)
	}
	return set
}

func values() map[string]interface{} {
	who := &user.DefaultInfo{Name: "u", Groups: []string{"g"}}
	return map[string]interface{}{
		"object": object(), "request": request(),
		"namespaceObject":            map[string]interface{}{"metadata": map[string]interface{}{"name": "d"}},
		"authorizer":                 library.NewAuthorizerVal(who, rules{}),
		"authorizer.requestResource": library.NewResourceAuthorizerVal(who, rules{}, requested{}),
		"s":                          "hello", "i": int64(5), "u": uint64(7), "d": 1.5, "b": []byte("abc"),
		"l": []interface{}{int64(1), int64(2), int64(3)}, "names": []interface{}{"b", "a"},
		"m": map[string]interface{}{"a": "b"}, "t": types.Timestamp{Time: mustTime("2024-02-29T12:30:45.5Z")},
	}
}

func main() {
	sets := map[int]*environment.EnvSet{}
	for minor := 23; minor <= 37; minor++ {
		sets[minor] = environments(minor)
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for in.Scan() {
		line := in.Text()
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := out.Encode(judge(sets, strings.ReplaceAll(line, `\n`, "\n"))); err != nil {
			panic(err)
		}
	}
}

func judge(sets map[int]*environment.EnvSet, expression string) verdict {
	v := verdict{Expression: expression}
	env := sets[37].StoredExpressionsEnv()
	ast, issues := env.Compile(expression)
	if issues != nil {
		v.Compile = issues.String()
		return v
	}
	for minor := 23; minor <= 37; minor++ {
		if _, issues := sets[minor].NewExpressionsEnv().Compile(expression); issues == nil {
			v.Since = &minor
			break
		}
	}
	v.Type = ast.OutputType().String()
	estimate, err := env.EstimateCost(ast, &library.CostEstimator{})
	if err != nil {
		panic(err)
	}
	v.Estimate = &[2]uint64{estimate.Min, estimate.Max}
	program, err := env.Program(ast)
	if err != nil {
		v.Compile = "program instantiation failed: " + err.Error()
		return v
	}
	value, details, err := program.Eval(values())
	if details != nil {
		v.Cost = details.ActualCost()
	}
	if err != nil {
		v.Error = err.Error()
		return v
	}
	v.Value = shown(value)
	return v
}

func text(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

func shown(v ref.Val) string {
	switch v := v.(type) {
	case types.Null:
		return "null"
	case types.Bool:
		return strconv.FormatBool(bool(v))
	case types.Int:
		return strconv.FormatInt(int64(v), 10)
	case types.Uint:
		return strconv.FormatUint(uint64(v), 10) + "u"
	case types.Double:
		return "double " + strconv.FormatFloat(float64(v), 'g', -1, 64)
	case types.String:
		return text(string(v))
	case types.Bytes:
		return "b" + text(string(v))
	case types.Duration, types.Timestamp:
		return v.Type().TypeName() + " " + string(v.ConvertToType(types.StringType).(types.String))
	case *types.Optional:
		if !v.HasValue() {
			return "none"
		}
		return "some " + shown(v.GetValue())
	case *types.Type:
		return "type " + v.TypeName()
	case traits.Mapper:
		var entries []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			entries = append(entries, shown(k)+": "+shown(v.Get(k)))
		}
		sort.Strings(entries)
		return "{" + strings.Join(entries, ", ") + "}"
	case traits.Lister:
		var items []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			items = append(items, shown(it.Next()))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case *apiservercel.Quantity:
		return "quantity " + v.Quantity.String()
	case apiservercel.Quantity:
		return "quantity " + v.Quantity.String()
	case apiservercel.URL:
		return "url " + v.URL.String()
	case apiservercel.IP:
		return "ip " + v.Addr.String()
	case apiservercel.CIDR:
		return "cidr " + v.Prefix.String()
	case apiservercel.Semver:
		return "semver " + v.Version.String()
	case *apiservercel.Format:
		return "format " + v.Name
	}
	return "a " + v.Type().TypeName()
}
