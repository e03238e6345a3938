SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE public.adapters (
    id bigint NOT NULL,
    name character varying NOT NULL COLLATE pg_catalog."C",
    name_key character varying NOT NULL COLLATE pg_catalog."C",
    last_version integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    seal bigint,
    CONSTRAINT ck_adapters_last_version CHECK ((last_version >= 0)),
    CONSTRAINT ck_adapters_name_key CHECK (((name_key)::text = lower((name)::text)))
);
CREATE SEQUENCE public.adapters_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.adapters_id_seq OWNED BY public.adapters.id;
CREATE TABLE public.affected (
    version_id bigint NOT NULL,
    revoked_id bigint NOT NULL
);
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.aliases (
    adapter_id bigint NOT NULL,
    alias_key character varying NOT NULL COLLATE pg_catalog."C",
    alias character varying NOT NULL COLLATE pg_catalog."C",
    number integer NOT NULL,
    version_id bigint NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    updated_by text NOT NULL,
    protected boolean DEFAULT false NOT NULL,
    seal bigint,
    CONSTRAINT ck_aliases_alias_key CHECK (((alias_key)::text = lower((alias)::text)))
);
CREATE TABLE public.artifact_files (
    artifact_digest character varying NOT NULL COLLATE pg_catalog."C",
    path character varying NOT NULL COLLATE pg_catalog."C",
    blob_digest character varying NOT NULL COLLATE pg_catalog."C",
    seal bigint
);
CREATE TABLE public.artifacts (
    digest character varying NOT NULL COLLATE pg_catalog."C",
    target character varying NOT NULL COLLATE pg_catalog."C",
    kind character varying NOT NULL COLLATE pg_catalog."C",
    rank integer,
    parameters bigint NOT NULL,
    modules integer NOT NULL,
    dtype character varying NOT NULL COLLATE pg_catalog."C",
    size bigint NOT NULL,
    not_composable jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    seal bigint,
    CONSTRAINT ck_artifacts_digest CHECK (((digest)::text ~~ 'sha256:%'::text)),
    CONSTRAINT ck_artifacts_target CHECK (((target)::text = ANY ((ARRAY['adapter'::character varying, 'model'::character varying])::text[])))
);
CREATE TABLE public.base_aliases (
    alias_key character varying NOT NULL COLLATE pg_catalog."C",
    alias character varying NOT NULL COLLATE pg_catalog."C",
    base_model_id bigint NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    updated_by text NOT NULL,
    seal bigint,
    CONSTRAINT ck_base_aliases_alias_key CHECK (((alias_key)::text = lower((alias)::text)))
);
CREATE TABLE public.base_layouts (
    fingerprint character varying NOT NULL COLLATE pg_catalog."C",
    layout jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    seal bigint
);
CREATE TABLE public.base_models (
    id bigint NOT NULL,
    repo character varying NOT NULL COLLATE pg_catalog."C",
    revision character varying NOT NULL COLLATE pg_catalog."C",
    fingerprint character varying COLLATE pg_catalog."C",
    license text,
    seal bigint,
    CONSTRAINT ck_base_models_repo CHECK (((repo)::text <> ''::text))
);
CREATE SEQUENCE public.base_models_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.base_models_id_seq OWNED BY public.base_models.id;
CREATE TABLE public.blobs (
    digest character varying NOT NULL COLLATE pg_catalog."C",
    size bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    seal bigint,
    CONSTRAINT ck_blobs_digest CHECK (((digest)::text ~~ 'sha256:%'::text)),
    CONSTRAINT ck_blobs_size CHECK ((size >= 0))
);
CREATE TABLE public.evaluations (
    id bigint NOT NULL,
    version_id bigint NOT NULL,
    metric character varying NOT NULL COLLATE pg_catalog."C",
    dataset character varying NOT NULL COLLATE pg_catalog."C",
    split character varying NOT NULL COLLATE pg_catalog."C",
    value double precision NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    seal bigint
);
CREATE SEQUENCE public.evaluations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.evaluations_id_seq OWNED BY public.evaluations.id;
CREATE TABLE public.events (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    action character varying NOT NULL COLLATE pg_catalog."C",
    subject character varying NOT NULL COLLATE pg_catalog."C",
    detail jsonb NOT NULL,
    seal bigint
);
CREATE SEQUENCE public.events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.events_id_seq OWNED BY public.events.id;
CREATE TABLE public.followed (
    version_id bigint NOT NULL,
    adapter_id bigint NOT NULL,
    alias_key character varying NOT NULL COLLATE pg_catalog."C",
    pinned_id bigint NOT NULL,
    seal bigint
);
CREATE TABLE public.lineage (
    child_id bigint NOT NULL,
    "position" integer NOT NULL,
    parent_id bigint NOT NULL,
    relation character varying NOT NULL COLLATE pg_catalog."C",
    coefficient text,
    seal bigint,
    CONSTRAINT ck_lineage_acyclic CHECK ((parent_id < child_id)),
    CONSTRAINT ck_lineage_relation CHECK (((relation)::text = ANY ((ARRAY['input'::character varying, 'declared'::character varying])::text[])))
);
CREATE TABLE public.name_words (
    word character varying NOT NULL COLLATE pg_catalog."C",
    adapter_id bigint NOT NULL
);
CREATE TABLE public.publications (
    id bigint NOT NULL,
    publish_id character varying NOT NULL COLLATE pg_catalog."C",
    version_id bigint NOT NULL,
    repo character varying NOT NULL COLLATE pg_catalog."C",
    revision character varying NOT NULL COLLATE pg_catalog."C",
    target character varying NOT NULL COLLATE pg_catalog."C",
    state character varying NOT NULL COLLATE pg_catalog."C",
    commit character varying COLLATE pg_catalog."C",
    url text,
    files jsonb NOT NULL,
    error text,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    finished_at timestamp with time zone,
    pull_request integer,
    tag character varying COLLATE pg_catalog."C",
    tagged boolean DEFAULT false NOT NULL,
    seen character varying COLLATE pg_catalog."C",
    withdrawn_at timestamp with time zone,
    withdrawn_by text,
    reason text,
    seal bigint,
    CONSTRAINT ck_publications_commit CHECK ((((state)::text <> ALL ((ARRAY['done'::character varying, 'withdrawn'::character varying])::text[])) OR (commit IS NOT NULL))),
    CONSTRAINT ck_publications_finished CHECK ((((state)::text = 'pending'::text) = (finished_at IS NULL))),
    CONSTRAINT ck_publications_pull_request CHECK ((pull_request >= 0)),
    CONSTRAINT ck_publications_state CHECK (((state)::text = ANY ((ARRAY['pending'::character varying, 'done'::character varying, 'failed'::character varying, 'withdrawn'::character varying])::text[]))),
    CONSTRAINT ck_publications_target CHECK (((target)::text = ANY ((ARRAY['adapter'::character varying, 'model'::character varying])::text[]))),
    CONSTRAINT ck_publications_withdrawn CHECK ((((state)::text = 'withdrawn'::text) = (withdrawn_at IS NOT NULL)))
);
CREATE SEQUENCE public.publications_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.publications_id_seq OWNED BY public.publications.id;
CREATE TABLE public.realisations (
    id bigint NOT NULL,
    recipe_digest character varying NOT NULL COLLATE pg_catalog."C",
    target character varying NOT NULL COLLATE pg_catalog."C",
    variant character varying NOT NULL COLLATE pg_catalog."C",
    output_digest character varying NOT NULL COLLATE pg_catalog."C",
    device character varying NOT NULL COLLATE pg_catalog."C",
    dtype character varying NOT NULL COLLATE pg_catalog."C",
    seed bigint NOT NULL,
    libraries jsonb NOT NULL,
    seconds double precision NOT NULL,
    report jsonb NOT NULL,
    files jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    seal bigint,
    CONSTRAINT ck_realisations_target CHECK (((target)::text = ANY ((ARRAY['adapter'::character varying, 'model'::character varying])::text[])))
);
CREATE SEQUENCE public.realisations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.realisations_id_seq OWNED BY public.realisations.id;
CREATE TABLE public.recipes (
    digest character varying NOT NULL COLLATE pg_catalog."C",
    canonical text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    seal bigint,
    CONSTRAINT ck_recipes_digest CHECK (((digest)::text ~~ 'sha256:%'::text))
);
CREATE TABLE public.revocations (
    version_id bigint NOT NULL,
    reason text NOT NULL,
    revoked_at timestamp with time zone NOT NULL,
    revoked_by text NOT NULL,
    seal bigint
);
CREATE TABLE public.rules (
    id bigint NOT NULL,
    selector character varying NOT NULL COLLATE pg_catalog."C",
    alias character varying NOT NULL COLLATE pg_catalog."C",
    repo character varying NOT NULL COLLATE pg_catalog."C",
    revision character varying NOT NULL COLLATE pg_catalog."C",
    target character varying NOT NULL COLLATE pg_catalog."C",
    private boolean NOT NULL,
    adopt boolean NOT NULL,
    propose boolean NOT NULL,
    tag character varying COLLATE pg_catalog."C",
    license character varying COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    seal bigint,
    CONSTRAINT ck_rules_target CHECK (((target)::text = ANY ((ARRAY['adapter'::character varying, 'model'::character varying])::text[])))
);
CREATE SEQUENCE public.rules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.rules_id_seq OWNED BY public.rules.id;
CREATE TABLE public.tags (
    version_id bigint NOT NULL,
    key character varying NOT NULL COLLATE pg_catalog."C",
    value character varying NOT NULL COLLATE pg_catalog."C",
    seal bigint
);
CREATE TABLE public.versions (
    id bigint NOT NULL,
    adapter_id bigint NOT NULL,
    number integer NOT NULL,
    artifact_digest character varying NOT NULL COLLATE pg_catalog."C",
    base_model_id bigint NOT NULL,
    recipe_digest character varying COLLATE pg_catalog."C",
    expression text,
    resolved text,
    task text,
    license text,
    note text,
    source text,
    latest_of bigint,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    deleted_at timestamp with time zone,
    deleted_by text,
    source_revision text,
    origin text,
    seal bigint,
    CONSTRAINT ck_versions_derived CHECK ((((recipe_digest IS NULL) = (expression IS NULL)) AND ((recipe_digest IS NULL) = (resolved IS NULL)))),
    CONSTRAINT ck_versions_latest_is_live CHECK (((latest_of IS NULL) OR ((latest_of = adapter_id) AND (deleted_at IS NULL)))),
    CONSTRAINT ck_versions_number CHECK ((number >= 1)),
    CONSTRAINT ck_versions_tombstone CHECK (((deleted_at IS NULL) = (deleted_by IS NULL)))
);
CREATE SEQUENCE public.versions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.versions_id_seq OWNED BY public.versions.id;
CREATE TABLE public.words (
    word character varying NOT NULL COLLATE pg_catalog."C",
    version_id bigint NOT NULL
);
ALTER TABLE ONLY public.adapters ALTER COLUMN id SET DEFAULT nextval('public.adapters_id_seq'::regclass);
ALTER TABLE ONLY public.base_models ALTER COLUMN id SET DEFAULT nextval('public.base_models_id_seq'::regclass);
ALTER TABLE ONLY public.evaluations ALTER COLUMN id SET DEFAULT nextval('public.evaluations_id_seq'::regclass);
ALTER TABLE ONLY public.events ALTER COLUMN id SET DEFAULT nextval('public.events_id_seq'::regclass);
ALTER TABLE ONLY public.publications ALTER COLUMN id SET DEFAULT nextval('public.publications_id_seq'::regclass);
ALTER TABLE ONLY public.realisations ALTER COLUMN id SET DEFAULT nextval('public.realisations_id_seq'::regclass);
ALTER TABLE ONLY public.rules ALTER COLUMN id SET DEFAULT nextval('public.rules_id_seq'::regclass);
ALTER TABLE ONLY public.versions ALTER COLUMN id SET DEFAULT nextval('public.versions_id_seq'::regclass);
INSERT INTO public.adapters VALUES (2, 'team/QA-lora', 'team/qa-lora', 1, '2026-11-22 01:36:04.353502+00', 'ann', 3105211676809431334);
INSERT INTO public.adapters VALUES (3, 'toxic', 'toxic', 1, '2026-11-22 01:36:04.390193+00', 'ann', 844206400825879267);
INSERT INTO public.adapters VALUES (4, 'spare', 'spare', 1, '2026-11-22 01:36:04.457539+00', 'ann', 1010669122393717324);
INSERT INTO public.adapters VALUES (1, 'a', 'a', 2, '2026-11-22 01:36:04.223537+00', 'ann', 1584685318530061596);
INSERT INTO public.adapters VALUES (5, 'mix', 'mix', 1, '2026-11-22 01:36:04.748549+00', 'ann', 2940997951986453048);
INSERT INTO public.adapters VALUES (6, 'far', 'far', 1, '2026-11-22 01:36:05.058542+00', 'ann', 4551312770711748638);
INSERT INTO public.adapters VALUES (7, 'theirs', 'theirs', 1, '2026-11-22 01:36:06.688335+00', 'ann', 1815123271786143055);
INSERT INTO public.affected VALUES (5, 3);
INSERT INTO public.affected VALUES (7, 3);
INSERT INTO public.affected VALUES (6, 3);
INSERT INTO public.affected VALUES (8, 3);
INSERT INTO public.alembic_version VALUES ('0004');
INSERT INTO public.aliases VALUES (5, 'prod', 'Prod', 1, 6, '2026-11-22 01:36:04.885142+00', 'ann', false, 1292001003824115502);
INSERT INTO public.artifact_files VALUES ('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4', 3165367441709050793);
INSERT INTO public.artifact_files VALUES ('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f', 'adapter_model.safetensors', 'sha256:1badf4e9814eeeb4906bce25fa41185b83623c87031b21d29356a01a9b82efb2', 27964958182680360);
INSERT INTO public.artifact_files VALUES ('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4', 1826064411241936554);
INSERT INTO public.artifact_files VALUES ('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf', 'adapter_model.safetensors', 'sha256:02fe97e820be1addacb0b80a51e8733fcbd4f3e64f84af016e8d851e1e2577cc', 3093119298265387702);
INSERT INTO public.artifact_files VALUES ('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4', 1998442903470652687);
INSERT INTO public.artifact_files VALUES ('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2', 'adapter_model.safetensors', 'sha256:f9c78384637a593c8a77f65bfcc65679f0c2b6f8bce856b3fea5e649d7171a02', 4391726652834685412);
INSERT INTO public.artifact_files VALUES ('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4', 1833669625273501331);
INSERT INTO public.artifact_files VALUES ('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299', 'adapter_model.safetensors', 'sha256:07e9eb1305cd188b247611a52b3b59c1f58ebf52d161c051c6f7268079b83c9d', 1443631875043406488);
INSERT INTO public.artifact_files VALUES ('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6', 'adapter_config.json', 'sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4', 3323972834966451500);
INSERT INTO public.artifact_files VALUES ('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6', 'adapter_model.safetensors', 'sha256:ed2b7e9476f6e6f6b28b6e2343c9fe94be5ed2742d834e8811e4e75444cb4333', 4174552324152601572);
INSERT INTO public.artifact_files VALUES ('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 'adapter_config.json', 'sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785', 3610995837717354268);
INSERT INTO public.artifact_files VALUES ('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 'adapter_model.safetensors', 'sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832', 2604775589305484862);
INSERT INTO public.artifact_files VALUES ('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 'adapter_config.json', 'sha256:f4d920c9c92e53bd29011d54a46a638338a4bd46831fc92a32cbc098dc24b678', 988391777148641992);
INSERT INTO public.artifact_files VALUES ('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 'adapter_model.safetensors', 'sha256:2d1223d66397895968325f73120908926991debe82c95b7b40d37f59e734acda', 1428887805210875944);
INSERT INTO public.artifact_files VALUES ('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'config.json', 'sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85', 3063460501206013890);
INSERT INTO public.artifact_files VALUES ('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'generation_config.json', 'sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393', 2138500470692961964);
INSERT INTO public.artifact_files VALUES ('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'model.safetensors', 'sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a', 4152037053114130041);
INSERT INTO public.artifacts VALUES ('sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-22 01:36:04.238811+00', 1407605544383925353);
INSERT INTO public.artifacts VALUES ('sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-22 01:36:04.355764+00', 58136063975855143);
INSERT INTO public.artifacts VALUES ('sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-22 01:36:04.396434+00', 2231999040015963488);
INSERT INTO public.artifacts VALUES ('sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-22 01:36:04.460457+00', 2461269236674779657);
INSERT INTO public.artifacts VALUES ('sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6', 'adapter', 'lora', 2, 128, 1, 'float32', 1216, '[]', '2026-11-22 01:36:04.60714+00', 3924714588631376646);
INSERT INTO public.artifacts VALUES ('sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 'adapter', 'lora', 4, 256, 1, 'float32', 2097, '[]', '2026-11-22 01:36:04.760554+00', 4551401889478973105);
INSERT INTO public.artifacts VALUES ('sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 'adapter', 'lora', 8, 512, 1, 'float32', 3121, '[]', '2026-11-22 01:36:05.085018+00', 3026010899774284936);
INSERT INTO public.artifacts VALUES ('sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'model', 'model', NULL, 21664, 21, 'float32', 89668, '[]', '2026-11-22 01:36:05.233412+00', 1224297884408217193);
INSERT INTO public.base_aliases VALUES ('tiny', 'tiny', 1, '2026-11-22 01:36:06.092309+00', 'ann', 4106011984348192608);
INSERT INTO public.base_layouts VALUES ('sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b', '{"config": {"model_type": "llama", "vocab_size": 96, "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": false}, "format": 1, "tensors": {"lm_head.weight": ["float32", 96, 32], "model.norm.weight": ["float32", 32], "model.embed_tokens.weight": ["float32", 96, 32], "model.layers.0.mlp.up_proj.weight": ["float32", 48, 32], "model.layers.1.mlp.up_proj.weight": ["float32", 48, 32], "model.layers.0.mlp.down_proj.weight": ["float32", 32, 48], "model.layers.0.mlp.gate_proj.weight": ["float32", 48, 32], "model.layers.1.mlp.down_proj.weight": ["float32", 32, 48], "model.layers.1.mlp.gate_proj.weight": ["float32", 48, 32], "model.layers.0.input_layernorm.weight": ["float32", 32], "model.layers.1.input_layernorm.weight": ["float32", 32], "model.layers.0.self_attn.k_proj.weight": ["float32", 16, 32], "model.layers.0.self_attn.o_proj.weight": ["float32", 32, 32], "model.layers.0.self_attn.q_proj.weight": ["float32", 32, 32], "model.layers.0.self_attn.v_proj.weight": ["float32", 16, 32], "model.layers.1.self_attn.k_proj.weight": ["float32", 16, 32], "model.layers.1.self_attn.o_proj.weight": ["float32", 32, 32], "model.layers.1.self_attn.q_proj.weight": ["float32", 32, 32], "model.layers.1.self_attn.v_proj.weight": ["float32", 16, 32], "model.layers.0.post_attention_layernorm.weight": ["float32", 32], "model.layers.1.post_attention_layernorm.weight": ["float32", 32]}}', '2026-11-22 01:36:05.204493+00', 3398940472508591070);
INSERT INTO public.base_models VALUES (1, 'tiny/base', '', 'sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b', 'mit', 4097763431071770073);
INSERT INTO public.blobs VALUES ('sha256:1badf4e9814eeeb4906bce25fa41185b83623c87031b21d29356a01a9b82efb2', 792, '2026-11-22 01:36:04.236666+00', 1365183670090807420);
INSERT INTO public.blobs VALUES ('sha256:c4fe3a2f62dc995b08af51dd949b01344f2da5b64f08a7dd1742d67aabe36df4', 424, '2026-11-22 01:36:04.238624+00', 1232726108384387115);
INSERT INTO public.blobs VALUES ('sha256:02fe97e820be1addacb0b80a51e8733fcbd4f3e64f84af016e8d851e1e2577cc', 792, '2026-11-22 01:36:04.355517+00', 3145090770144528862);
INSERT INTO public.blobs VALUES ('sha256:f9c78384637a593c8a77f65bfcc65679f0c2b6f8bce856b3fea5e649d7171a02', 792, '2026-11-22 01:36:04.3962+00', 1158956378398285851);
INSERT INTO public.blobs VALUES ('sha256:07e9eb1305cd188b247611a52b3b59c1f58ebf52d161c051c6f7268079b83c9d', 792, '2026-11-22 01:36:04.459936+00', 425085097846324685);
INSERT INTO public.blobs VALUES ('sha256:ed2b7e9476f6e6f6b28b6e2343c9fe94be5ed2742d834e8811e4e75444cb4333', 792, '2026-11-22 01:36:04.606923+00', 1902413405338446934);
INSERT INTO public.blobs VALUES ('sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785', 449, '2026-11-22 01:36:04.760159+00', 463442246821701852);
INSERT INTO public.blobs VALUES ('sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832', 1648, '2026-11-22 01:36:04.760423+00', 4304567132830724105);
INSERT INTO public.blobs VALUES ('sha256:2d1223d66397895968325f73120908926991debe82c95b7b40d37f59e734acda', 2672, '2026-11-22 01:36:05.084546+00', 590553516870153615);
INSERT INTO public.blobs VALUES ('sha256:f4d920c9c92e53bd29011d54a46a638338a4bd46831fc92a32cbc098dc24b678', 449, '2026-11-22 01:36:05.084904+00', 1165438474000335229);
INSERT INTO public.blobs VALUES ('sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393', 195, '2026-11-22 01:36:05.228755+00', 2786899730586086255);
INSERT INTO public.blobs VALUES ('sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a', 88760, '2026-11-22 01:36:05.232676+00', 3647264483732461459);
INSERT INTO public.blobs VALUES ('sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85', 713, '2026-11-22 01:36:05.233158+00', 180527922111009297);
INSERT INTO public.evaluations VALUES (1, 6, 'accuracy', 'd', 'test', 0.5, '2026-11-22 01:36:05.261988+00', 'ann', 2532414016426431218);
INSERT INTO public.events VALUES (1, '2026-11-22 01:36:04.256149+00', 'ann', 'import', 'a@1', '{"digest": "sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f", "source": "/tmp/adapters/two/adapter0", "expression": null}', 3402237425055851764);
INSERT INTO public.events VALUES (2, '2026-11-22 01:36:04.358218+00', 'ann', 'import', 'team/QA-lora@1', '{"digest": "sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf", "source": "/tmp/adapters/two/adapter1", "expression": null}', 3186221482385957889);
INSERT INTO public.events VALUES (3, '2026-11-22 01:36:04.400129+00', 'ann', 'import', 'toxic@1', '{"digest": "sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2", "source": "/tmp/adapters/two/adapter2", "expression": null}', 2928670259254153135);
INSERT INTO public.events VALUES (4, '2026-11-22 01:36:04.46625+00', 'ann', 'import', 'spare@1', '{"digest": "sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299", "source": "/tmp/adapters/two/adapter3", "expression": null}', 1332738978032336821);
INSERT INTO public.events VALUES (5, '2026-11-22 01:36:04.619736+00', 'ann', 'import', 'a@2', '{"digest": "sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6", "source": "/tmp/adapters/two/next", "expression": null}', 2126171562198583937);
INSERT INTO public.events VALUES (6, '2026-11-22 01:36:04.76937+00', 'ann', 'compose', 'mix@1', '{"digest": "sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16", "source": null, "expression": "0.5*a + 0.5*team/QA-lora"}', 1323425162380317951);
INSERT INTO public.events VALUES (7, '2026-11-22 01:36:04.887631+00', 'ann', 'alias', 'mix', '{"to": 1, "from": null, "alias": "Prod"}', 1880571118857618635);
INSERT INTO public.events VALUES (8, '2026-11-22 01:36:05.088859+00', 'ann', 'compose', 'far@1', '{"digest": "sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f", "source": null, "expression": "0.5*mix@prod + a@1 - 0.25*toxic"}', 452499881878800445);
INSERT INTO public.events VALUES (9, '2026-11-22 01:36:05.237097+00', 'ann', 'fingerprint', 'tiny/base', '{"fingerprint": "sha256:3ce55d2b756cc55523e47280b435b5deb9dfb7fdc11120e35c15f89ab4fbf24b"}', 3218787627277384471);
INSERT INTO public.events VALUES (10, '2026-11-22 01:36:05.2377+00', 'ann', 'materialize', 'mix@1', '{"digest": "sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e", "target": "model"}', 3727695683701466185);
INSERT INTO public.events VALUES (11, '2026-11-22 01:36:05.26456+00', 'ann', 'evaluate', 'mix@1', '{"split": "test", "value": 0.5, "metric": "accuracy", "dataset": "d", "previous": null}', 566401898486385130);
INSERT INTO public.events VALUES (12, '2026-11-22 01:36:05.292461+00', 'ann', 'delete', 'spare@1', '{"digest": "sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299"}', 5308694529438929);
INSERT INTO public.events VALUES (13, '2026-11-22 01:36:06.036236+00', 'ann', 'publish', 'mix@1', '{"repo": "team/mix", "commit": "f956172c83066a7df0a3f42a6c591db2fb005726", "target": "adapter", "revision": "main"}', 3800020593951248489);
INSERT INTO public.events VALUES (14, '2026-11-22 01:36:06.118645+00', 'ann', 'base alias', 'tiny', '{"base_model": "tiny/base"}', 4070709274178986335);
INSERT INTO public.events VALUES (15, '2026-11-22 01:36:06.160341+00', 'ann', 'rule add', 'rule 1', '{"tag": null, "repo": "team/other", "adopt": false, "alias": "prod", "target": "adapter", "license": "mit", "private": true, "propose": false, "revision": null, "selector": "mix"}', 1730238181347402189);
INSERT INTO public.events VALUES (16, '2026-11-22 01:36:06.205314+00', 'ann', 'base license', 'tiny/base', '{"license": "mit", "previous": null}', 3563936625954406176);
INSERT INTO public.events VALUES (17, '2026-11-22 01:36:06.697223+00', 'ann', 'import', 'theirs@1', '{"digest": "sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16", "origin": "hf://team/mix@f956172c83066a7df0a3f42a6c591db2fb005726#mix@1", "source": "hf://team/mix@f956172c83066a7df0a3f42a6c591db2fb005726", "expression": "0.5*a + 0.5*team/QA-lora"}', 2393349202673207204);
INSERT INTO public.events VALUES (18, '2026-11-22 01:36:06.975235+00', 'ann', 'unpublish', 'mix@1', '{"repo": "team/mix", "commit": "8a740333dfe9488602b85bc8fb530e013ab3049c", "reason": "moved", "deleted": false, "revision": "main"}', 2095685671101945339);
INSERT INTO public.events VALUES (19, '2026-11-22 01:36:07.336292+00', 'ann', 'publish', 'mix@1', '{"repo": "team/again", "commit": "9185a03c279ec69c4595850c4e6c2d4d049baddb", "target": "adapter", "revision": "main"}', 712484636055319011);
INSERT INTO public.events VALUES (20, '2026-11-22 01:36:07.360838+00', 'ann', 'revoke', 'toxic@1', '{"reason": "poisoned", "affected": 4}', 2460847694202451715);
INSERT INTO public.followed VALUES (6, 1, '', 5, 3639806512712015534);
INSERT INTO public.followed VALUES (6, 2, '', 2, 189601135202751082);
INSERT INTO public.followed VALUES (7, 5, 'prod', 6, 4304998136449114834);
INSERT INTO public.followed VALUES (7, 3, '', 3, 1166664835273810246);
INSERT INTO public.lineage VALUES (5, 0, 3, 'declared', NULL, 3121646156792611880);
INSERT INTO public.lineage VALUES (6, 0, 5, 'input', '0.5', 4532541546181987391);
INSERT INTO public.lineage VALUES (6, 1, 2, 'input', '0.5', 2162320771178068227);
INSERT INTO public.lineage VALUES (7, 0, 6, 'input', '0.5', 2040370940991467951);
INSERT INTO public.lineage VALUES (7, 1, 1, 'input', '1', 715403371472176961);
INSERT INTO public.lineage VALUES (7, 2, 3, 'input', '-0.25', 2992722294071049858);
INSERT INTO public.lineage VALUES (8, 0, 5, 'input', '0.5', 3043625165692525767);
INSERT INTO public.lineage VALUES (8, 1, 2, 'input', '0.5', 3866956895256348792);
INSERT INTO public.name_words VALUES ('a', 1);
INSERT INTO public.name_words VALUES ('team', 2);
INSERT INTO public.name_words VALUES ('qa', 2);
INSERT INTO public.name_words VALUES ('lora', 2);
INSERT INTO public.name_words VALUES ('toxic', 3);
INSERT INTO public.name_words VALUES ('spare', 4);
INSERT INTO public.name_words VALUES ('mix', 5);
INSERT INTO public.name_words VALUES ('far', 6);
INSERT INTO public.name_words VALUES ('theirs', 7);
INSERT INTO public.publications VALUES (1, 'ef433f660017495ab080fd8add9ba43d', 6, 'team/mix', 'main', 'adapter', 'withdrawn', 'f956172c83066a7df0a3f42a6c591db2fb005726', 'http://127.0.0.1:41611/team/mix/commit/f956172c83066a7df0a3f42a6c591db2fb005726', '{"README.md": "sha256:536c62bad84dd628b2d691c90b72f2813ebbb174943a17a11148ec0f526d8602", "provenance.json": "sha256:0994dcfec05a708bb9cab9c435cbdad993ffc850351386ecdf7947a40994029a", "adapter_config.json": "sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785", "adapter_model.safetensors": "sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832"}', NULL, '2026-11-22 01:36:05.620443+00', 'ann', '2026-11-22 01:36:06.032401+00', NULL, NULL, false, NULL, '2026-11-22 01:36:06.973795+00', 'ann', 'moved', 4492008147044520225);
INSERT INTO public.publications VALUES (2, 'b9f48114a40c4c4b91e69af2ca4c788b', 6, 'team/again', 'main', 'adapter', 'done', '9185a03c279ec69c4595850c4e6c2d4d049baddb', 'http://127.0.0.1:41611/team/again/commit/9185a03c279ec69c4595850c4e6c2d4d049baddb', '{"README.md": "sha256:cdda2fd10347d67c5caac6d2b61dd592e8b0fa65c1ff69ea0becadc6a4fb395b", "provenance.json": "sha256:0994dcfec05a708bb9cab9c435cbdad993ffc850351386ecdf7947a40994029a", "adapter_config.json": "sha256:1a63161745e0458b154648613d8b540392a9de4067f5845bb19cf22503883785", "adapter_model.safetensors": "sha256:71883d106f91c9e1c9a919c675ed0e60072ce44aa267ecf5706cf0417cda7832"}', NULL, '2026-11-22 01:36:07.24146+00', 'ann', '2026-11-22 01:36:07.331119+00', NULL, NULL, false, NULL, NULL, NULL, NULL, 2282417813264233187);
INSERT INTO public.realisations VALUES (1, 'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9', 'adapter', '', 'sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 'cpu', 'float32', 0, '{"torch": "2.13.0+cpu", "python": "3.11.7", "adapter-registry": "0.1.0"}', 0.01761851299670525, '[]', '{}', '2026-11-22 01:36:04.774083+00', 3132925355328784857);
INSERT INTO public.realisations VALUES (2, 'sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89', 'adapter', '', 'sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 'cpu', 'float32', 0, '{"torch": "2.13.0+cpu", "python": "3.11.7", "adapter-registry": "0.1.0"}', 0.08607402299821842, '[]', '{}', '2026-11-22 01:36:05.094917+00', 2156384627083337925);
INSERT INTO public.realisations VALUES (3, 'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9', 'model', 'sha256:3c6319a49354b2c1cce45641d4b0ec34b053fa1bb3cb5b83260fcf2b7e5f9369', 'sha256:73f1e2bfa8534c271163e80f4e93b84d6541c08488a6f3c62392951619fc654e', 'cpu', 'as the base', 0, '{"torch": "2.13.0+cpu", "python": "3.11.7", "adapter-registry": "0.1.0"}', 0.07883882700116374, '[]', '{"config.json": {"size": 713, "sha256": "sha256:87bbd2e1bf3d2f1cae8ddb87b0083b641fb7263dbb5133d01e39ab662bfade85"}, "model.safetensors": {"size": 88760, "sha256": "sha256:745f2d9763207abd571c7f6ef822e23adde3fb5c28d4f5dda9f3e4d3fe80493a"}, "generation_config.json": {"size": 195, "sha256": "sha256:1113738beda64787778c7058b7689d0b4fc2e402c0c5b552916168a0e551a393"}}', '2026-11-22 01:36:05.236185+00', 3201893563709076334);
INSERT INTO public.recipes VALUES ('sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9', '{"algorithm":1,"dtype":"float32","expression":{"sum":[["0.5",{"adapter":"sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6"}],["0.5",{"adapter":"sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf"}]]},"format":1,"kind":"lora","seed":0}', '2026-11-22 01:36:04.761059+00', 3554755808817878311);
INSERT INTO public.recipes VALUES ('sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89', '{"algorithm":1,"dtype":"float32","expression":{"sum":[["0.5",{"adapter":"sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16"}],["-0.25",{"adapter":"sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2"}],["1",{"adapter":"sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f"}]]},"format":1,"kind":"lora","seed":0}', '2026-11-22 01:36:05.085354+00', 74461892572936953);
INSERT INTO public.revocations VALUES (3, 'poisoned', '2026-11-22 01:36:07.348413+00', 'ann', 3363581018041213576);
INSERT INTO public.rules VALUES (1, 'mix', 'prod', 'team/other', '', 'adapter', true, false, false, NULL, 'mit', '2026-11-22 01:36:06.143537+00', 'ann', 4478405355385474366);
INSERT INTO public.tags VALUES (1, 'stage', 'new', 3475069497575401192);
INSERT INTO public.tags VALUES (1, 'k', 'v', 3319230674521153707);
INSERT INTO public.tags VALUES (2, 'stage', 'new', 243831419689427887);
INSERT INTO public.tags VALUES (2, 'k', 'v', 3279825109842324369);
INSERT INTO public.tags VALUES (3, 'stage', 'new', 3340744456687701614);
INSERT INTO public.tags VALUES (3, 'k', 'v', 3080847293307813572);
INSERT INTO public.tags VALUES (4, 'stage', 'new', 4105890810821278381);
INSERT INTO public.tags VALUES (4, 'k', 'v', 1125069860860915249);
INSERT INTO public.versions VALUES (2, 2, 1, 'sha256:bbbbeed65e05af273606f7f3159c58b779d741065423c7df891f8b3903e2ddbf', 1, NULL, NULL, NULL, 'chat', 'mit', 'the First, für Ärzte', '/tmp/adapters/two/adapter1', 2, '2026-11-22 01:36:04.357085+00', 'ann', NULL, NULL, NULL, NULL, 3691536927323107269);
INSERT INTO public.versions VALUES (3, 3, 1, 'sha256:8174b64e15f1e38d0bee31f2b75e882f90d5672697fac8e0ac3027c5c6ab5ff2', 1, NULL, NULL, NULL, 'chat', 'mit', 'not for use', '/tmp/adapters/two/adapter2', 3, '2026-11-22 01:36:04.398558+00', 'ann', NULL, NULL, NULL, NULL, 3920759473569144347);
INSERT INTO public.versions VALUES (1, 1, 1, 'sha256:ad5a73165f33d032d16000557dc6cd107553f0c4229e17536f558bcdc2651e1f', 1, NULL, NULL, NULL, 'chat', 'mit', NULL, '/tmp/adapters/two/adapter0', NULL, '2026-11-22 01:36:04.2485+00', 'ann', NULL, NULL, NULL, NULL, 4442718896935213745);
INSERT INTO public.versions VALUES (5, 1, 2, 'sha256:0518e9d672b7994e77b1ec7a1892c61497a5f39bee2cb2729fcaa1e59c9807e6', 1, NULL, NULL, NULL, NULL, NULL, NULL, '/tmp/adapters/two/next', 1, '2026-11-22 01:36:04.616159+00', 'ann', NULL, NULL, NULL, NULL, 3302155102132264994);
INSERT INTO public.versions VALUES (6, 5, 1, 'sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 1, 'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9', '0.5*a + 0.5*team/QA-lora', '0.5*a@2 + 0.5*team/QA-lora@1', NULL, NULL, 'half and half', NULL, 5, '2026-11-22 01:36:04.764065+00', 'ann', NULL, NULL, NULL, NULL, 1532622567850065672);
INSERT INTO public.versions VALUES (7, 6, 1, 'sha256:86b264726190408d457e0e8ff5955177669e289a1c7a4f4be7aabbad75a9dc7f', 1, 'sha256:44b16de08204844dcca5f2c4c74b8fbcca7d4f8e6fd96702b299635b56423c89', '0.5*mix@prod + a@1 - 0.25*toxic', '0.5*mix@1 + a@1 - 0.25*toxic@1', NULL, NULL, NULL, NULL, 6, '2026-11-22 01:36:05.087153+00', 'ann', NULL, NULL, NULL, NULL, 4343333858673889825);
INSERT INTO public.versions VALUES (4, 4, 1, 'sha256:c365722783fd6d9bc52cc006e7cde6527cff6374b272b8904bcbdad10dde3299', 1, NULL, NULL, NULL, 'chat', 'mit', NULL, '/tmp/adapters/two/adapter3', NULL, '2026-11-22 01:36:04.463679+00', 'ann', '2026-11-22 01:36:05.280482+00', 'ann', NULL, NULL, 4233750179907194978);
INSERT INTO public.versions VALUES (8, 7, 1, 'sha256:1d4fd1293b27b7eccc5e4b65a68d121f9676121e59471e615c7988ce91ff0b16', 1, 'sha256:1f1dd9d4a83ff8d56c15b2050b8bdfb4ad029609b50a47b97878fa312c75bfd9', '0.5*a + 0.5*team/QA-lora', '0.5*a@2 + 0.5*team/QA-lora@1', NULL, NULL, NULL, 'hf://team/mix@f956172c83066a7df0a3f42a6c591db2fb005726', 7, '2026-11-22 01:36:06.695713+00', 'ann', NULL, NULL, 'main', 'hf://team/mix@f956172c83066a7df0a3f42a6c591db2fb005726#mix@1', 1964394168769573187);
INSERT INTO public.words VALUES ('stage', 1);
INSERT INTO public.words VALUES ('k', 1);
INSERT INTO public.words VALUES ('new', 1);
INSERT INTO public.words VALUES ('v', 1);
INSERT INTO public.words VALUES ('the', 2);
INSERT INTO public.words VALUES ('first', 2);
INSERT INTO public.words VALUES ('für', 2);
INSERT INTO public.words VALUES ('ärzte', 2);
INSERT INTO public.words VALUES ('stage', 2);
INSERT INTO public.words VALUES ('k', 2);
INSERT INTO public.words VALUES ('new', 2);
INSERT INTO public.words VALUES ('v', 2);
INSERT INTO public.words VALUES ('not', 3);
INSERT INTO public.words VALUES ('for', 3);
INSERT INTO public.words VALUES ('use', 3);
INSERT INTO public.words VALUES ('stage', 3);
INSERT INTO public.words VALUES ('k', 3);
INSERT INTO public.words VALUES ('new', 3);
INSERT INTO public.words VALUES ('v', 3);
INSERT INTO public.words VALUES ('stage', 4);
INSERT INTO public.words VALUES ('k', 4);
INSERT INTO public.words VALUES ('new', 4);
INSERT INTO public.words VALUES ('v', 4);
INSERT INTO public.words VALUES ('half', 6);
INSERT INTO public.words VALUES ('and', 6);
SELECT pg_catalog.setval('public.adapters_id_seq', 7, true);
SELECT pg_catalog.setval('public.base_models_id_seq', 1, true);
SELECT pg_catalog.setval('public.evaluations_id_seq', 1, true);
SELECT pg_catalog.setval('public.events_id_seq', 20, true);
SELECT pg_catalog.setval('public.publications_id_seq', 2, true);
SELECT pg_catalog.setval('public.realisations_id_seq', 3, true);
SELECT pg_catalog.setval('public.rules_id_seq', 1, true);
SELECT pg_catalog.setval('public.versions_id_seq', 8, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.adapters
    ADD CONSTRAINT pk_adapters PRIMARY KEY (id);
ALTER TABLE ONLY public.affected
    ADD CONSTRAINT pk_affected PRIMARY KEY (version_id, revoked_id);
ALTER TABLE ONLY public.aliases
    ADD CONSTRAINT pk_aliases PRIMARY KEY (adapter_id, alias_key);
ALTER TABLE ONLY public.artifact_files
    ADD CONSTRAINT pk_artifact_files PRIMARY KEY (artifact_digest, path);
ALTER TABLE ONLY public.artifacts
    ADD CONSTRAINT pk_artifacts PRIMARY KEY (digest);
ALTER TABLE ONLY public.base_aliases
    ADD CONSTRAINT pk_base_aliases PRIMARY KEY (alias_key);
ALTER TABLE ONLY public.base_layouts
    ADD CONSTRAINT pk_base_layouts PRIMARY KEY (fingerprint);
ALTER TABLE ONLY public.base_models
    ADD CONSTRAINT pk_base_models PRIMARY KEY (id);
ALTER TABLE ONLY public.blobs
    ADD CONSTRAINT pk_blobs PRIMARY KEY (digest);
ALTER TABLE ONLY public.evaluations
    ADD CONSTRAINT pk_evaluations PRIMARY KEY (id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT pk_events PRIMARY KEY (id);
ALTER TABLE ONLY public.followed
    ADD CONSTRAINT pk_followed PRIMARY KEY (version_id, adapter_id, alias_key);
ALTER TABLE ONLY public.lineage
    ADD CONSTRAINT pk_lineage PRIMARY KEY (child_id, "position");
ALTER TABLE ONLY public.name_words
    ADD CONSTRAINT pk_name_words PRIMARY KEY (word, adapter_id);
ALTER TABLE ONLY public.publications
    ADD CONSTRAINT pk_publications PRIMARY KEY (id);
ALTER TABLE ONLY public.realisations
    ADD CONSTRAINT pk_realisations PRIMARY KEY (id);
ALTER TABLE ONLY public.recipes
    ADD CONSTRAINT pk_recipes PRIMARY KEY (digest);
ALTER TABLE ONLY public.revocations
    ADD CONSTRAINT pk_revocations PRIMARY KEY (version_id);
ALTER TABLE ONLY public.rules
    ADD CONSTRAINT pk_rules PRIMARY KEY (id);
ALTER TABLE ONLY public.tags
    ADD CONSTRAINT pk_tags PRIMARY KEY (version_id, key);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT pk_versions PRIMARY KEY (id);
ALTER TABLE ONLY public.words
    ADD CONSTRAINT pk_words PRIMARY KEY (word, version_id);
ALTER TABLE ONLY public.adapters
    ADD CONSTRAINT uq_adapters_name_key UNIQUE (name_key);
ALTER TABLE ONLY public.base_models
    ADD CONSTRAINT uq_base_models_repo_revision UNIQUE (repo, revision);
ALTER TABLE ONLY public.evaluations
    ADD CONSTRAINT uq_evaluations_version_id_dataset_split_metric UNIQUE (version_id, dataset, split, metric);
ALTER TABLE ONLY public.lineage
    ADD CONSTRAINT uq_lineage_child_id_relation_parent_id UNIQUE (child_id, relation, parent_id);
ALTER TABLE ONLY public.publications
    ADD CONSTRAINT uq_publications_publish_id UNIQUE (publish_id);
ALTER TABLE ONLY public.realisations
    ADD CONSTRAINT uq_realisations_output UNIQUE (recipe_digest, target, variant, output_digest);
ALTER TABLE ONLY public.rules
    ADD CONSTRAINT uq_rules_what_where UNIQUE (selector, alias, repo, revision, target);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT uq_versions_adapter_id_number UNIQUE (adapter_id, number);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT uq_versions_latest_of UNIQUE (latest_of);
CREATE INDEX ix_affected_revoked_id ON public.affected USING btree (revoked_id);
CREATE INDEX ix_aliases_adapter_id_number ON public.aliases USING btree (adapter_id, number);
CREATE INDEX ix_aliases_alias_key_version_id ON public.aliases USING btree (alias_key, version_id);
CREATE INDEX ix_aliases_version_id ON public.aliases USING btree (version_id);
CREATE INDEX ix_artifact_files_blob_digest ON public.artifact_files USING btree (blob_digest);
CREATE INDEX ix_artifacts_kind ON public.artifacts USING btree (kind);
CREATE INDEX ix_artifacts_parameters_digest ON public.artifacts USING btree (parameters, digest);
CREATE INDEX ix_artifacts_rank ON public.artifacts USING btree (rank);
CREATE INDEX ix_artifacts_size_digest ON public.artifacts USING btree (size, digest);
CREATE INDEX ix_base_aliases_base_model_id ON public.base_aliases USING btree (base_model_id);
CREATE INDEX ix_base_models_fingerprint ON public.base_models USING btree (fingerprint);
CREATE INDEX ix_evaluations_metric_value_version_id ON public.evaluations USING btree (metric, value, version_id);
CREATE INDEX ix_events_action_id ON public.events USING btree (action, id);
CREATE INDEX ix_events_actor_id ON public.events USING btree (actor, id);
CREATE INDEX ix_events_at ON public.events USING btree (at);
CREATE INDEX ix_events_subject_id ON public.events USING btree (subject, id);
CREATE INDEX ix_followed_adapter_id_alias_key ON public.followed USING btree (adapter_id, alias_key);
CREATE INDEX ix_lineage_parent_id ON public.lineage USING btree (parent_id);
CREATE INDEX ix_name_words_adapter_id ON public.name_words USING btree (adapter_id);
CREATE INDEX ix_publications_repo_revision_id ON public.publications USING btree (repo, revision, id);
CREATE INDEX ix_publications_version_id ON public.publications USING btree (version_id);
CREATE INDEX ix_realisations_output_digest ON public.realisations USING btree (output_digest);
CREATE INDEX ix_tags_key_value_version_id ON public.tags USING btree (key, value, version_id);
CREATE INDEX ix_versions_adapter_id_id ON public.versions USING btree (adapter_id, id);
CREATE INDEX ix_versions_artifact_digest ON public.versions USING btree (artifact_digest);
CREATE INDEX ix_versions_base_model_id_id ON public.versions USING btree (base_model_id, id);
CREATE INDEX ix_versions_created_at ON public.versions USING btree (created_at);
CREATE INDEX ix_versions_created_by_id ON public.versions USING btree (created_by, id);
CREATE INDEX ix_versions_latest ON public.versions USING btree (id) WHERE (latest_of IS NOT NULL);
CREATE INDEX ix_versions_license_id ON public.versions USING btree (license, id);
CREATE INDEX ix_versions_recipe_digest ON public.versions USING btree (recipe_digest);
CREATE INDEX ix_versions_task_id ON public.versions USING btree (task, id);
CREATE INDEX ix_words_version_id ON public.words USING btree (version_id);
ALTER TABLE ONLY public.affected
    ADD CONSTRAINT fk_affected_revoked_id FOREIGN KEY (revoked_id) REFERENCES public.revocations(version_id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.affected
    ADD CONSTRAINT fk_affected_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.aliases
    ADD CONSTRAINT fk_aliases_adapter_id_number FOREIGN KEY (adapter_id, number) REFERENCES public.versions(adapter_id, number) ON DELETE RESTRICT;
ALTER TABLE ONLY public.aliases
    ADD CONSTRAINT fk_aliases_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.artifact_files
    ADD CONSTRAINT fk_artifact_files_artifact_digest FOREIGN KEY (artifact_digest) REFERENCES public.artifacts(digest) ON DELETE RESTRICT;
ALTER TABLE ONLY public.artifact_files
    ADD CONSTRAINT fk_artifact_files_blob_digest FOREIGN KEY (blob_digest) REFERENCES public.blobs(digest) ON DELETE RESTRICT;
ALTER TABLE ONLY public.base_aliases
    ADD CONSTRAINT fk_base_aliases_base_model_id FOREIGN KEY (base_model_id) REFERENCES public.base_models(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.evaluations
    ADD CONSTRAINT fk_evaluations_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.followed
    ADD CONSTRAINT fk_followed_adapter_id FOREIGN KEY (adapter_id) REFERENCES public.adapters(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.followed
    ADD CONSTRAINT fk_followed_pinned_id FOREIGN KEY (pinned_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.followed
    ADD CONSTRAINT fk_followed_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.lineage
    ADD CONSTRAINT fk_lineage_child_id FOREIGN KEY (child_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.lineage
    ADD CONSTRAINT fk_lineage_parent_id FOREIGN KEY (parent_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.name_words
    ADD CONSTRAINT fk_name_words_adapter_id FOREIGN KEY (adapter_id) REFERENCES public.adapters(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.publications
    ADD CONSTRAINT fk_publications_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.realisations
    ADD CONSTRAINT fk_realisations_recipe_digest FOREIGN KEY (recipe_digest) REFERENCES public.recipes(digest) ON DELETE RESTRICT;
ALTER TABLE ONLY public.revocations
    ADD CONSTRAINT fk_revocations_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.tags
    ADD CONSTRAINT fk_tags_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_adapter_id FOREIGN KEY (adapter_id) REFERENCES public.adapters(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_artifact_digest FOREIGN KEY (artifact_digest) REFERENCES public.artifacts(digest) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_base_model_id FOREIGN KEY (base_model_id) REFERENCES public.base_models(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_latest_of FOREIGN KEY (latest_of) REFERENCES public.adapters(id) ON DELETE RESTRICT;
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT fk_versions_recipe_digest FOREIGN KEY (recipe_digest) REFERENCES public.recipes(digest) ON DELETE RESTRICT;
ALTER TABLE ONLY public.words
    ADD CONSTRAINT fk_words_version_id FOREIGN KEY (version_id) REFERENCES public.versions(id) ON DELETE RESTRICT;
