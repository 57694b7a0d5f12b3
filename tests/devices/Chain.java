import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CertPathValidator;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.Base64;
import java.util.Date;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import sun.security.pkcs10.PKCS10;

/**
 * What the JDK's own X.509 says of a certificate, its CA's and its CSR. A fact a line; where one is
 * not accepted, the exception.
 *
 * <p>Arguments: leaf.pem ca.pem request.pem, and the moment in milliseconds.
 */
class Chain {
    public static void main(String[] given) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        X509Certificate leaf = certificate(factory, given[0]);
        PKIXParameters trusted =
                new PKIXParameters(Set.of(new TrustAnchor(certificate(factory, given[1]), null)));
        trusted.setRevocationEnabled(false);
        trusted.setDate(new Date(Long.parseLong(given[3])));
        CertPathValidator.getInstance("PKIX")
                .validate(factory.generateCertPath(List.of(leaf)), trusted);
        String armored = Files.readString(Path.of(given[2])).replaceAll("-----[A-Z ]+-----", "");
        PKCS10 request = new PKCS10(Base64.getMimeDecoder().decode(armored)); // verifies its signature
        say("leaf.subject", leaf.getSubjectX500Principal().getEncoded());
        say("leaf.spki", leaf.getPublicKey().getEncoded());
        say("csr.subject", request.getSubjectName().asX500Principal().getEncoded());
        say("csr.spki", request.getSubjectPublicKeyInfo().getEncoded());
    }

    private static X509Certificate certificate(CertificateFactory factory, String file)
            throws Exception {
        try (InputStream content = Files.newInputStream(Path.of(file))) {
            return (X509Certificate) factory.generateCertificate(content);
        }
    }

    private static void say(String name, byte[] value) {
        System.out.println(name + " " + HexFormat.of().formatHex(value));
    }
}
