package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The webhooks' server, and what is counted of the controller's work.
type hooks struct {
	address   string
	bundle    string
	broken    atomic.Bool
	finalized atomic.Int32
}

func (h *hooks) url(path string) string { return "https://" + h.address + path }

// Listens with a certificate of its own making.
func serve() *hooks {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	pemText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	h := &hooks{address: listener.Addr().String(), bundle: base64.StdEncoding.EncodeToString(pemText)}
	mux := http.NewServeMux()
	mux.HandleFunc("/convert", h.convert)
	mux.HandleFunc("/mutate", reviewed(mutate))
	mux.HandleFunc("/validate", reviewed(validate))
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	server := &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{
		{Certificate: [][]byte{der}, PrivateKey: key}}}}
	go func() { check(server.ServeTLS(listener, "", "")) }()
	return h
}

// The part of apiextensions.k8s.io/v1 that both sides write.
type conversionReview struct {
	metav1.TypeMeta `json:",inline"`
	Request         *conversionRequest  `json:"request,omitempty"`
	Response        *conversionResponse `json:"response,omitempty"`
}

type conversionRequest struct {
	UID               string                      `json:"uid"`
	DesiredAPIVersion string                      `json:"desiredAPIVersion"`
	Objects           []unstructured.Unstructured `json:"objects"`
}

type conversionResponse struct {
	UID              string                      `json:"uid"`
	ConvertedObjects []unstructured.Unstructured `json:"convertedObjects"`
	Result           metav1.Status               `json:"result"`
}

func (h *hooks) convert(w http.ResponseWriter, r *http.Request) {
	var review conversionReview
	check(json.NewDecoder(r.Body).Decode(&review))
	response := &conversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
	if h.broken.Load() {
		response.Result = metav1.Status{Status: metav1.StatusFailure, Message: "out of order"}
	} else {
		for _, one := range review.Request.Objects {
			response.ConvertedObjects = append(response.ConvertedObjects, converted(one, review.Request.DesiredAPIVersion))
		}
	}
	review.Request, review.Response = nil, response
	w.Header().Set("Content-Type", "application/json")
	check(json.NewEncoder(w).Encode(review))
}

func converted(from unstructured.Unstructured, version string) unstructured.Unstructured {
	to := *from.DeepCopy()
	to.SetAPIVersion(version)
	spec, _, _ := unstructured.NestedMap(from.Object, "spec")
	if spec == nil || from.GetAPIVersion() == version {
		return to
	}
	if strings.HasSuffix(version, "/v1") {
		to.Object["spec"] = object{"address": fmt.Sprintf("%v:%v", spec["host"], spec["port"])}
		return to
	}
	address, _ := spec["address"].(string)
	host, port, _ := strings.Cut(address, ":")
	number := must(strconv.ParseInt(port, 10, 32))
	to.Object["spec"] = object{"host": host, "port": number}
	return to
}

// A handler of AdmissionReviews.
func reviewed(decide func(*unstructured.Unstructured, *admissionv1.AdmissionResponse)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		check(json.NewDecoder(r.Body).Decode(&review))
		var seen unstructured.Unstructured
		check(json.Unmarshal(review.Request.Object.Raw, &seen.Object))
		response := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if seen.GetAPIVersion() != group+"/v2" {
			response.Allowed, response.Result = false, &metav1.Status{Message: "the webhook got " + seen.GetAPIVersion()}
		} else {
			decide(&seen, response)
		}
		review.Request, review.Response = nil, response
		w.Header().Set("Content-Type", "application/json")
		check(json.NewEncoder(w).Encode(review))
	}
}

func mutate(seen *unstructured.Unstructured, response *admissionv1.AdmissionResponse) {
	kind := admissionv1.PatchTypeJSONPatch
	patch := `[{"op":"add","path":"/metadata/labels","value":{"mutated":"yes"}}]`
	if seen.GetLabels() != nil {
		patch = `[{"op":"add","path":"/metadata/labels/mutated","value":"yes"}]`
	}
	response.PatchType, response.Patch = &kind, []byte(patch)
}

func validate(seen *unstructured.Unstructured, response *admissionv1.AdmissionResponse) {
	port, _, _ := unstructured.NestedFieldNoCopy(seen.Object, "spec", "port")
	number, _ := port.(int64)
	if float, ok := port.(float64); ok {
		number = int64(float)
	}
	if number > 65535 {
		response.Allowed = false
		response.Result = &metav1.Status{Message: fmt.Sprintf("port %d is too large", number)}
	}
	if number < 1024 {
		response.Warnings = []string{fmt.Sprintf("port %d is well known", number)}
	}
}
