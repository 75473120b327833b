// grpc.reflection, v1 and v1alpha: lets grpcurl, buf curl and the like call the service without its .proto files.
import {
  createRegistry,
  type DescFile,
  type DescService,
  type MessageInitShape,
  type MessageShape,
  type Registry,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "../../gen/google/rpc/error_details_pb.js";
import { file_google_rpc_status } from "../../gen/google/rpc/status_pb.js";
import {
  ServerReflection,
  type ServerReflectionRequestSchema,
  type ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.js";

type ReflectionService = ServiceImpl<typeof ServerReflection>;
type ReflectionRequest = MessageShape<typeof ServerReflectionRequestSchema>;
type ReflectionResponse = MessageInitShape<typeof ServerReflectionResponseSchema>;
type ReflectionAnswer = NonNullable<ReflectionResponse["messageResponse"]>;

interface Known {
  readonly services: readonly DescService[];
  readonly files: ReadonlyMap<string, DescFile>;
  readonly registry: Registry;
  /** Answers about files, each made once. */
  readonly answers: Map<DescFile, ReflectionAnswer>;
}

/** Tools ask a few questions and leave. A stream with more questions is not a tool's. */
const questionsMax = 1_000;

/**
 * Serves both versions, which differ only in name, and lists the given services. Each question counts against its
 * caller, since its answer may be a hundred times as long: `admit` throws to end the stream.
 */
export function mountReflection(
  router: ConnectRouter,
  services: readonly DescService[],
  admit: (context: HandlerContext) => Promise<void>,
): void {
  const known = knowledgeOf([...services, ServerReflection, ServerReflectionAlpha]);
  const v1: ReflectionService = {
    serverReflectionInfo: (requests, context) => reflectAll(known, requests, () => admit(context)),
  };
  router.service(ServerReflection, v1);
  // The messages of v1alpha have the same fields under other type names, so the same generator serves both.
  router.service(ServerReflectionAlpha, v1 as unknown as ServiceImpl<typeof ServerReflectionAlpha>);
}

function knowledgeOf(services: readonly DescService[]): Known {
  // Error details belong to no service's messages, but tools need them to show an error.
  const roots = [...services.map((service) => service.file), file_google_rpc_error_details, file_google_rpc_status];
  const closure = roots.flatMap((file) => withDependencies(file));
  const files = new Map(closure.map((file): [string, DescFile] => [file.proto.name, file]));
  return { services, files, registry: createRegistry(...files.values()), answers: new Map() };
}

async function* reflectAll(known: Known, requests: AsyncIterable<ReflectionRequest>, admit: () => Promise<void>) {
  let questions = 0;
  for await (const originalRequest of requests) {
    if (++questions > questionsMax) throw new ConnectError("Too many questions", Code.ResourceExhausted);
    // The first question was counted with the call.
    if (questions > 1) await admit();
    const messageResponse = answerOf(known, originalRequest.messageRequest);
    yield { validHost: originalRequest.host, originalRequest, messageResponse };
  }
}

function answerOf(known: Known, request: ReflectionRequest["messageRequest"]): ReflectionAnswer {
  switch (request.case) {
    case "listServices": {
      const service = known.services.map(({ typeName }) => ({ name: typeName }));
      return { case: "listServicesResponse", value: { service } };
    }
    case "fileByFilename":
      return fileAnswer(known, known.files.get(request.value), request.value);
    case "fileContainingSymbol":
      return fileAnswer(known, fileOfSymbol(known.registry, request.value), request.value);
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = request.value;
      const found = extensionsOf(known.registry, containingType).find(({ number }) => number === extensionNumber);
      return fileAnswer(known, found?.file, `${containingType} ${extensionNumber}`);
    }
    case "allExtensionNumbersOfType": {
      if (!known.registry.getMessage(request.value)) return notFound(request.value);
      const extensionNumber = extensionsOf(known.registry, request.value).map(({ number }) => number);
      return { case: "allExtensionNumbersResponse", value: { baseTypeName: request.value, extensionNumber } };
    }
    default:
      return failure(Code.InvalidArgument, "No question is asked");
  }
}

/** A symbol is a type, an extension or a service, or a member of one: a method, field, oneof or enum value. */
function fileOfSymbol(registry: Registry, symbol: string): DescFile | undefined {
  const owner = symbol.slice(0, symbol.lastIndexOf("."));
  const direct = registry.get(symbol);
  if (direct) return direct.file;
  const member = symbol.slice(owner.length + 1);
  const parent = registry.get(owner);
  switch (parent?.kind) {
    case "service":
      return parent.methods.some(({ name }) => name === member) ? parent.file : undefined;
    case "message":
      return parent.members.some(({ name }) => name === member) ? parent.file : undefined;
    case "enum":
      return parent.values.some(({ name }) => name === member) ? parent.file : undefined;
    default:
      return undefined;
  }
}

function extensionsOf(registry: Registry, typeName: string) {
  return [...registry]
    .filter((type) => type.kind === "extension")
    .filter(({ extendee }) => extendee.typeName === typeName);
}

function fileAnswer({ answers }: Known, file: DescFile | undefined, asked: string): ReflectionAnswer {
  if (!file) return notFound(asked);
  const made = answers.get(file);
  if (made) return made;
  // Dependencies are included, so that a tool needs only one question.
  const files = new Set(withDependencies(file));
  const fileDescriptorProto = [...files].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  const answer: ReflectionAnswer = { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
  answers.set(file, answer);
  return answer;
}

function withDependencies(file: DescFile): DescFile[] {
  return [file, ...file.dependencies.flatMap(withDependencies)];
}

const notFound = (asked: string) => failure(Code.NotFound, `Not found: ${asked.slice(0, 200)}`);

function failure(errorCode: Code, errorMessage: string): ReflectionAnswer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
